"""Files of a run that nobody writes any more, in one: cluster file systems ration the number of files.

``packed.zip`` in the run folder holds attempt records and logs of what ended well, under the names that they had.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from codeio_hpc.tables.files import sync

NAME = "packed.zip"


def pack_files(run: Path, paths: Iterable[Path]) -> int:
    """Move files of a run into its packed file; how many. What is packed twice is there once, as it was last.

    The packed file is written anew and replaces the old one before anything is removed.
    """
    new = {str(path.relative_to(run)): path for path in paths}
    if not new:
        return 0
    packed, temporary = run / NAME, run / f".{NAME}.{os.getpid()}.tmp"
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, data in _entries(packed):
                if name not in new:
                    archive.writestr(name, data, zipfile.ZIP_DEFLATED)
            for name, path in sorted(new.items()):
                archive.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)
        sync(temporary)
        os.replace(temporary, packed)
        sync(run)
    finally:
        temporary.unlink(missing_ok=True)
    for path in new.values():
        path.unlink(missing_ok=True)
    return len(new)


def _entries(packed: Path) -> Iterator[tuple[str, bytes]]:
    if packed.exists():
        with zipfile.ZipFile(packed) as archive:
            for name in archive.namelist():
                yield name, archive.read(name)


def packed_names(run: Path) -> list[str]:
    """Last parts of the names of all packed files."""
    if not (run / NAME).exists():
        return []
    with zipfile.ZipFile(run / NAME) as archive:
        return [name.rpartition("/")[2] for name in archive.namelist()]


def packed_texts(run: Path, folder: str) -> Iterator[tuple[str, str]]:
    """Name and content of every packed file of a folder, by name."""
    if (run / NAME).exists():
        with zipfile.ZipFile(run / NAME) as archive:
            for name in sorted(archive.namelist()):
                if name.startswith(f"{folder}/"):
                    yield name, archive.read(name).decode("utf-8", errors="replace")
