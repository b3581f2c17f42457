"""Reading weights: what this project published is what it was, and of what others did no tensor is lacking."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.tables.files import changed_files
from codeio_hpc.train.plan import RECORD, read_record

_NAMED = 3
"""So many tensors are named in a message."""


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative path: {"bytes", "sha256"}, of a model folder that this project published; nothing of one of others."""
    record = read_record(folder) or {}
    return dict(record.get("files", {}))


def check_files(folder: Path) -> None:
    """Compare a model folder with what was published, if this project did.

    Raises:
        UserError: files are missing, or their content is another.
    """
    refuse_changed(folder, changed_files(folder, files_of(folder)))


def refuse_changed(folder: Path, names: Sequence[str]) -> None:
    """Refuse a model folder in which these files have changed since it was published.

    Raises:
        UserError: there are any.
    """
    if names:
        raise UserError(
            f"{folder}: {', '.join(names)}: missing, cut or changed since the model was published",
            f"the sizes and hashes in its {RECORD} are others",
            "restore the files; or remove the folder and train its stage again, which publishes it anew from that "
            "stage's last checkpoint",
        )


def read_weights(folder: Path, **options: Any) -> Any:
    """The causal language model of a folder, with every tensor from its files; ``options`` are transformers'.

    transformers by itself draws at random what files lack, and says so in a warning only.

    Raises:
        UserError: files cannot be read, or their tensors are not those of the configuration.
        OSError, RuntimeError: of the machine, not of the files: its disk fails, its memory is full.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    told = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        model, info = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **told, **options)
    except (SafetensorError, OSError, EOFError, RuntimeError) as error:
        if _is_of_the_machine(error):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{folder}: its weights cannot be read: {reason}",
            "files are missing, cut or damaged",
            "copy or download the model again",
        ) from None
    sizes = [f"{name} of {_size(found)} instead of {_size(wanted)}" for name, found, wanted in info["mismatched_keys"]]
    _refuse(folder, "lacks", sorted(info["missing_keys"]), "transformers would draw them at random")
    _refuse(folder, "has other sizes:", sorted(sizes), "transformers would draw them at random")
    _refuse(folder, "has, beyond the model,", sorted(info["unexpected_keys"]), "they would be left out in silence")
    return model


def _is_of_the_machine(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno not in (None, errno.ENOENT)  # transformers' own have no number
    return any(words in str(error) for words in ("out of memory", "can't allocate memory"))  # CUDA's, and the host's


def _refuse(folder: Path, what: str, tensors: Sequence[str], why: str) -> None:
    if tensors:
        more = f" and {len(tensors) - _NAMED} more" if len(tensors) > _NAMED else ""
        raise UserError(
            f"{folder}: the weights' file {what} {', '.join(tensors[:_NAMED])}{more}",
            f"config.json tells of another model; {why}",
            "copy or download the model again, with config.json and all files of weights from the same place",
        )


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
