"""Model folders: the untrained start, loading, and publishing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codeio_hpc.config.recipe import DType
from codeio_hpc.errors import UserError
from codeio_hpc.tables.files import facts_of, publish_folder
from codeio_hpc.train.plan import RECORD, TrainingPlan, read_record
from codeio_hpc.train.reading import read_weights

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def quieten() -> None:
    """No progress bars of a second's work, and no warnings that libraries address to each other."""
    import warnings

    import torch
    import transformers

    if not torch.cuda.is_available():  # transformers imports DeepSpeed, which would say that it found no GPU
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.|transformers\.")


def ensure_untrained(plan: TrainingPlan) -> None:
    """Publish ``models/untrained``, once: what stage 1 starts from and evaluation compares with.

    Raises:
        UserError: it is there, but of another recipe or seed.
    """
    folder = plan.models / "untrained"
    record = read_record(folder)
    if record is None:
        publish_model(folder, plan, {"identity": plan.start, "stage": "untrained"}, lambda to: _create(plan, to))
    elif record["identity"] != plan.start:
        raise UserError(
            f"{folder}: made by another recipe, tokenizer or seed", "stage 1 starts from it", f"remove {folder}"
        )


def _create(plan: TrainingPlan, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    own_code = {"trust_remote_code": False}  # or transformers asks a person whether to run the model's
    with _understood_by_transformers(plan.source):
        if plan.recipe.initial == "pretrained":
            model = read_weights(plan.source, dtype="auto", **own_code)
        else:
            torch.manual_seed(plan.seed)
            config = AutoConfig.from_pretrained(plan.source, local_files_only=True, **own_code)
            model = AutoModelForCausalLM.from_config(config, **own_code)
    if plan.recipe.initial == "mimetic":
        set_mimetic_attention(model)
    model.save_pretrained(folder)


@contextmanager
def _understood_by_transformers(folder: Path) -> Iterator[None]:
    """What transformers raises over a configuration, such as one of an architecture that it does not know, as one
    error for the user."""
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (ValueError, KeyError, ImportError, StrictDataclassError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{folder}/config.json: {reason[:300]}",
            f"transformers {transformers.__version__} cannot make a causal language model of it",
            "correct config.json, or take a model that this transformers knows",
        ) from None


def set_mimetic_attention(model: Any) -> None:
    """Attention that finds equal tokens and passes on what they are, as training would make it first.

    Keys start equal to queries and the output projection as the transpose of the values' projection, so that both
    products are near multiples of the identity, as they are in trained models (Trockman and Kolter, "Mimetic
    Initialization of Self-Attention Layers", arXiv 2305.09828). A small model copies values a few hundred steps
    earlier for it. The scale, 0.8 / sqrt(width), was found by trial.

    Raises:
        UserError: the model has no such attention.
    """
    import torch

    found = [layer for layer in model.modules() if all(hasattr(layer, name) for name in _PROJECTIONS)]
    if not found or any(layer.q_proj.weight.shape != layer.k_proj.weight.shape for layer in found):
        raise UserError(
            "initial: mimetic", "the model has no q, k, v, o projections of one shape each", "take initial: random"
        )
    with torch.no_grad():
        for layer in found:
            width = layer.q_proj.weight.shape[1]
            for weight in (layer.q_proj.weight, layer.v_proj.weight):
                weight.normal_(0.0, 0.8 / width**0.5)
            layer.k_proj.weight.copy_(layer.q_proj.weight)
            layer.o_proj.weight.copy_(layer.v_proj.weight.T)


def publish_model(
    folder: Path, plan: TrainingPlan, record: dict[str, Any], write: Callable[[Path], None], first: bool = True
) -> None:
    """A model folder with weights (from ``write``), tokenizer and record; seen whole or not at all.

    All ranks take part in writing; the ``first`` does everything else.
    """
    staging = folder.with_name(f".{folder.name}.tmp")
    if first:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    write(staging)
    if not first:
        return
    for name in _TOKENIZER_FILES:
        if (plan.source / name).is_file():
            shutil.copyfile(plan.source / name, staging / name)
    files = {path.name: facts_of(path) for path in sorted(staging.iterdir()) if path.is_file()}
    facts = {"recipe": plan.recipe.name, "tokenizer": plan.tokenizer, "seed": plan.seed} | record | {"files": files}
    (staging / RECORD).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    publish_folder(staging, folder)


def load_model(plan: TrainingPlan, dtype: DType, read: bool) -> Any:
    """The model at step 0, ready for an engine.

    Args:
        read: read its weights from the file system. Otherwise they are whatever the memory held: one rank reads, and
            the engine gives its weights to the others, so that not every rank asks the file system for them at once.

    Raises:
        UserError: its weights cannot be read or are not whole, it has no such attention, or fewer positions than
            sequences have tokens.
    """
    import torch

    from codeio_hpc.train.attention import register

    register()
    options = {"dtype": getattr(torch, dtype), "attn_implementation": plan.recipe.attention}
    try:
        model = read_weights(plan.start_folder, **options) if read else _empty_model(plan, options)
    except (ValueError, ImportError) as error:
        raise UserError(
            f"attention: {plan.recipe.attention}", str(error).splitlines()[0], "choose another in the recipe"
        ) from None
    length = plan.recipe.length(plan.name)
    positions = getattr(model.config, "max_position_embeddings", length)
    if positions < length:  # where config.json does not say so itself, and check_model passed it
        raise UserError(f"sequence_length: {length}", f"the model has {positions} positions", "shorten it")
    model.config.use_cache = False  # a cache switches the detection of packed sequences off
    if plan.recipe.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def _empty_model(plan: TrainingPlan, options: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    with no_init_weights():
        config = AutoConfig.from_pretrained(plan.start_folder, local_files_only=True)
        model = AutoModelForCausalLM.from_config(config, **options)
    model.tie_weights()
    return model


def pad_token(config: Any) -> int:
    """The id that fills rows; any id will do, since nothing learns from it and nothing sees it."""
    return next((i for i in (config.pad_token_id, config.eos_token_id) if isinstance(i, int) and i >= 0), 0)
