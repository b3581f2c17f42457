"""Files and folders that appear whole or not at all, also after a power cut."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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


def facts_of(path: Path) -> dict[str, Any]:
    """{"bytes", "sha256"} of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def changed_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those of these files, named relative to the folder, whose :func:`facts_of` are others now, or that are gone."""
    return [name for name, facts in sorted(files.items()) if _is_changed(folder / name, facts)]


def _is_changed(path: Path, facts: Mapping[str, Any]) -> bool:
    try:
        return path.stat().st_size != int(facts["bytes"]) or sha256(path) != str(facts["sha256"])
    except (FileNotFoundError, NotADirectoryError):
        return True


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
    # containers on one host can have the same process ids, and hosts of a cloud the same name
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            _link(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def _link(temporary: Path, path: Path) -> None:
    """Give the file a second name, unless that exists: an exclusive rename that works on NFS too."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV):
            raise
        # no hard links here (some FUSE and object stores): two writers at the same moment then both succeed, with the
        # same bytes
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temporary, path)


def publish_folder(staging: Path, final: Path) -> None:
    """Put everything in ``staging`` on disk, then make it appear as ``final``, which must not exist yet."""
    for path in sorted(staging.rglob("*")):
        sync(path)
    sync(staging)
    os.rename(staging, final)
    sync(final.parent)
