"""Files and folders that appear whole or not at all, also after a power cut."""

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


def publish_file(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Make ``data`` appear under ``path`` whole or not at all, also after a power cut.

    Raises:
        FileExistsError: ``exclusive`` and ``path`` exists; the existing file is left as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            os.link(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def publish_folder(staging: Path, final: Path) -> None:
    """Put everything in ``staging`` on disk, then make it appear as ``final``, which must not exist yet."""
    for path in sorted(staging.rglob("*")):
        sync(path)
    sync(staging)
    os.rename(staging, final)
    sync(final.parent)
