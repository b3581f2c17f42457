"""Folders that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def sync(path: Path) -> None:
    """Force a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Hash (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_synced(path: Path, text: str) -> None:
    """A small file, on disk when this returns."""
    path.write_text(text, encoding="utf-8")
    sync(path)


def publish_folder(staging: Path, final: Path) -> None:
    """Put everything in ``staging`` on disk, then make it appear as ``final``, which must not exist yet."""
    for path in sorted(staging.rglob("*")):
        sync(path)
    sync(staging)
    os.rename(staging, final)
    sync(final.parent)
