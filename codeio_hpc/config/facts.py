"""The model's config.json against the recipe, before anything heavy is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codeio_hpc.config.load import parse
from codeio_hpc.config.recipe import ModelFacts, Recipe
from codeio_hpc.errors import UserError

_KEYS = {
    "vocabulary": "vocab_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "hidden": "hidden_size",
    "context": "max_position_embeddings",
}
"""Facts of a recipe, by their names in config.json."""
_SIZES = {
    "intermediate": "intermediate_size",
    "head_dim": "head_dim",
    "attention_bias": "attention_bias",
    "tied": "tie_word_embeddings",
}
_LATENT = {
    "kv_rank": "kv_lora_rank",
    "query_rank": "q_lora_rank",
    "nope_dim": "qk_nope_head_dim",
    "rope_dim": "qk_rope_head_dim",
    "value_dim": "v_head_dim",
}
_EXPERTS = {
    "count": "n_routed_experts",
    "active": "num_experts_per_tok",
    "shared": "n_shared_experts",
    "intermediate": "moe_intermediate_size",
    "dense_layers": "first_k_dense_replace",
}
"""Facts that plans need; ``latent`` and ``experts`` are facts of their own."""
_UNSAID: dict[str, dict[str, Any]] = {
    "gemma2": {"tie_word_embeddings": True, "head_dim": 256},
    "deepseek_v2": {"head_dim": None},
}
"""Where config.json says nothing: transformers' default for the model type; that of the others is False, or none.
DeepSeek's own files say nothing of ``head_dim``, transformers' do."""
_SOFT_CAP = {"gemma2": 50.0}
"""Of attention, where config.json says nothing: transformers' default for the model type."""


def check_model(recipe: Recipe, stage: str, folder: Path) -> None:
    """See that the model in ``folder`` is the recipe's, and that this stage can be trained on it.

    An architecture that transformers does not know is left to transformers.

    Raises:
        UserError: config.json is missing, broken, or of another model than ``recipe.facts`` tells of; the stage's
            sequences are longer than the model's context; or the attention would leave out the model's soft-cap.
    """
    path = folder / "config.json"
    config = _read(path)
    if recipe.facts is not None:
        _check_facts(recipe.facts, config, path, recipe.name)
    _check_context(config, path, recipe.length(stage))
    default = _SOFT_CAP.get(str(config.get("model_type")))
    if recipe.attention == "sdpa" and config.get("attn_logit_softcapping", default) is not None:
        raise UserError(
            "attention: sdpa",
            f"{path}: the model caps its attention scores (attn_logit_softcapping), and SDPA does not: "
            "it would be another model",
            "set attention to eager, flash_attention_2 or flex_attention in the recipe",
        )


def facts_of_model(folder: Path) -> ModelFacts:
    """The facts of the model in ``folder``.

    Raises:
        UserError: config.json is missing, broken, or lacks one of them.
    """
    return facts_of(_read(folder / "config.json"), f"{folder}/config.json")


def facts_of(config: Mapping[str, Any], where: str) -> ModelFacts:
    """The facts in the content of a config.json; ``where`` it is, for errors.

    Raises:
        UserError: it lacks one of them, or has a value that makes no sense.
    """
    said = _UNSAID.get(str(config.get("model_type")), {}) | dict(config)
    if said.get("kv_lora_rank") is not None:
        said["head_dim"] = None  # heads have two parts there
    names = said.get("architectures")
    found = {"architecture": names[0] if isinstance(names, list) and names else names}
    found |= {fact: said[key] for fact, key in (_KEYS | _SIZES).items() if said.get(key) is not None}
    if "heads" in found:
        found.setdefault("kv_heads", found["heads"])
    for fact, keys in (("latent", _LATENT), ("experts", _EXPERTS)):
        values = {name: said[key] for name, key in keys.items() if said.get(key) is not None}
        if next(iter(keys)) in values:
            found[fact] = values
    return parse(ModelFacts, found, where)


def _read(path: Path) -> dict[str, Any]:
    fix = "copy config.json from the model's source again"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "it says what kind of model this is", fix) from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "it says what kind of model this is", fix) from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path}: {reason}", "it is no valid JSON: truncated or damaged", fix) from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: holds {type(config).__name__}", "a model's configuration is a JSON object", fix)
    return config


def _check_facts(facts: ModelFacts, config: dict[str, Any], path: Path, recipe: str) -> None:
    names = config.get("architectures")
    found = {"architectures": names[0] if isinstance(names, list) and names else names}
    found |= {key: config.get(key) for key in _KEYS.values()}
    if found["num_key_value_heads"] is None:  # as transformers reads it: every head has keys and values of its own
        found["num_key_value_heads"] = found["num_attention_heads"]
    expected = {"architectures": facts.architecture} | {key: getattr(facts, fact) for fact, key in _KEYS.items()}
    expected |= {key: value for key, value in _sizes(facts).items() if key in config}
    found |= {key: config[key] for key in expected if key not in found}
    differing = [
        f"{key} is {_shown(found[key])}, expected {json.dumps(value)}"
        for key, value in expected.items()
        if not _same(found[key], value)
    ]
    if differing:
        raise UserError(
            f"{path}: {'; '.join(differing)}",
            f"recipe '{recipe}' is for another model",
            "let 'model' of the recipe name the model that its facts describe, or correct the facts",
        )


def _sizes(facts: ModelFacts) -> dict[str, Any]:
    """What plans need, by its names in config.json; nothing where the recipe does not tell it."""
    told: dict[str, Any] = {}
    for one, keys in ((facts, _SIZES), (facts.latent, _LATENT), (facts.experts, _EXPERTS)):
        if one is not None and facts.intermediate is not None:
            told |= {key: getattr(one, fact) for fact, key in keys.items()}
    if facts.head_dim is None:
        told.pop("head_dim", None)
    return told


def _check_context(config: dict[str, Any], path: Path, length: int) -> None:
    key = _KEYS["context"]
    context = config.get(key)
    if context is None:  # some architectures have another name for it, or no limit
        return
    if not isinstance(context, int) or isinstance(context, bool) or context < 1:
        raise UserError(f"{path}: {key} is {_shown(context)}", "it is a number of positions", "correct config.json")
    if length > context:
        raise UserError(
            f"sequence_length: {length}",
            f"{path}: the model has {context} positions ({key})",
            "shorten sequence_length in the recipe",
        )


def _same(found: Any, expected: Any) -> bool:
    """Equal, and of one type: true is not 1."""
    return type(found) is type(expected) and bool(found == expected)


def _shown(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
