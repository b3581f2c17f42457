"""The model's config.json against the recipe, before anything heavy is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def _same(found: Any, expected: str | int) -> bool:
    """Equal, and of one type: true is not 1."""
    return type(found) is type(expected) and bool(found == expected)


def _shown(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
