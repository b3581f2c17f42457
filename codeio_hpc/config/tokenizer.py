"""Where a recipe's model and tokenizer lie, and what identifies the tokenizer."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from codeio_hpc.config.recipe import load_recipe
from codeio_hpc.errors import UserError

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""What decides the tokens of a conversation."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w-]*/[\w.-]+")
"""Of a model on the Hugging Face hub: OWNER/NAME."""


def tokenizer_folder(recipe_path: Path) -> Path:
    """The folder of the recipe's model, which holds its tokenizer too: beside the recipe, or in the local hub cache.

    Raises:
        UserError: there is no such folder and no such model in the cache, or it has no tokenizer.
    """
    name = load_recipe(recipe_path).model
    folder = recipe_path.parent / name
    if not folder.is_dir():
        folder = _cached(name, recipe_path)
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"{folder}: no tokenizer.json", "the recipe's tokenizer is read from it", "complete the folder")
    return folder


def _cached(name: str, recipe_path: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        fetch = f"on a machine with network: hf download {name}; or " if _HUB_NAME.fullmatch(name) else ""
        raise UserError(
            f"model '{name}' of {recipe_path}",
            f"there is no folder {recipe_path.parent / name} and no such model in the local Hugging Face cache",
            f"{fetch}set 'model' to a folder, relative to the recipe file",
        ) from None


def tokenizer_fingerprint(folder: Path) -> str:
    """SHA-256 (hex) over the tokenizer's files and the chat template; a missing file counts as an absent one."""
    digest = hashlib.sha256()
    for name in FILES:
        path = folder / name
        data = path.read_bytes() if path.is_file() else None
        digest.update(f"{name}:{-1 if data is None else len(data)}:".encode())
        digest.update(data or b"")
    return digest.hexdigest()
