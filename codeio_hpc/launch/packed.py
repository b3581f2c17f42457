"""Attempt records and logs that nobody writes any more, many in one file: cluster file systems ration files.

A round that is over has a ``packed.zip`` in its folder; `codeio pack` puts everything into one in the run folder. Files
in them have the names that they had in the run folder. A file is removed only once it is in an archive that has been
published whole: whatever ends that, it may be there twice for a while, but never not at all.
"""

from __future__ import annotations

import io
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path

from codeio_hpc.errors import UserError
from codeio_hpc.tables.files import publish_file

NAME = "packed.zip"

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
"""What reading a damaged archive raises."""


def pack_round(run: Path, folder: Path, paths: Iterable[Path]) -> None:
    """Move files of a round that is over into the archive in its folder. It is written once: later files stay."""
    archive, paths = folder / NAME, sorted(paths)
    if paths and not archive.exists():
        with suppress(FileExistsError):  # another command closes the round at this moment
            publish_file(archive, _zipped(_present(run, paths)), exclusive=True)
    _remove_packed(run, archive, paths)


def pack_all(run: Path, paths: Iterable[Path]) -> None:
    """Move files of a run, and what the archives of its rounds hold, into the one in the run folder.

    Raises:
        UserError: an archive is damaged.
        FileNotFoundError: a file is gone meanwhile: another command packs the same.
    """
    paths, old = sorted(paths), [archive for archive in _archives(run) if archive.exists()]
    if not paths and old in ([], [run / NAME]):
        return
    loose = ((_name(run, path), path.read_bytes()) for path in paths)
    try:
        data = _zipped(chain(loose, *map(_entries, old)))
    except _DAMAGED as error:
        raise UserError(
            f"{run}: a {NAME} in it is damaged ({error})",
            "what it holds would be lost",
            f"restore or remove it: unzip -tq {run / NAME}, and likewise those in {run / 'logs'}",
        ) from None
    publish_file(run / NAME, data)
    _remove_packed(run, run / NAME, paths)
    for archive in old:
        if archive != run / NAME:
            archive.unlink(missing_ok=True)


def packed_files(run: Path, folder: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every packed file of a folder; of what is there twice, the first counts.

    What is moved while this reads is met nevertheless: it goes into a round's archive, and from there to the run's.
    """
    for archive in _archives(run):
        try:
            yield from _entries(archive, f"{folder}/")
        except FileNotFoundError:
            continue  # its content is in the run's by now
        except _DAMAGED as error:
            _tell_damaged(archive, str(error))


def packed_names(run: Path) -> set[str]:
    """Names of all packed files."""
    names = set[str]()
    for archive in _archives(run):
        with suppress(FileNotFoundError, *_DAMAGED), zipfile.ZipFile(archive) as packed:
            names.update(packed.namelist())
    return names


def packed_text(run: Path, name: str) -> tuple[str, Path] | None:
    """The content of a packed file, and the archive that it is in."""
    for archive in _archives(run):
        with suppress(FileNotFoundError, KeyError, *_DAMAGED), zipfile.ZipFile(archive) as packed:
            return packed.read(name).decode("utf-8", errors="replace"), archive
    return None


def _archives(run: Path) -> list[Path]:
    """Those of rounds, and then the run's, which may not be there."""
    return [*sorted((run / "logs").glob(f"*/{NAME}")), run / NAME]


def _name(run: Path, path: Path) -> str:
    return str(path.relative_to(run))


def _present(run: Path, paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        with suppress(FileNotFoundError):
            yield _name(run, path), path.read_bytes()


def _entries(archive: Path, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            if name.startswith(prefix):
                yield name, packed.read(name)


def _zipped(entries: Iterable[tuple[str, bytes]]) -> bytes:
    """An archive of these; of what is there twice, the first counts."""
    data, names = io.BytesIO(), set[str]()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, content in entries:
            if name not in names:
                archive.writestr(name, content)
                names.add(name)
    return data.getvalue()


def _remove_packed(run: Path, archive: Path, paths: Iterable[Path]) -> None:
    """Remove those files that are in the archive as they are now: one that SLURM lost sight of may still write."""
    try:
        with zipfile.ZipFile(archive) as packed:
            names = set(packed.namelist())
            for path in paths:
                with suppress(FileNotFoundError):
                    name = _name(run, path)
                    if name in names and packed.read(name) == path.read_bytes():
                        path.unlink()
    except FileNotFoundError:
        pass
    except _DAMAGED as error:
        _tell_damaged(archive, str(error))


@cache
def _tell_damaged(archive: Path, error: str) -> None:
    """Once: what is read again and again is damaged each time."""
    print(f"codeio: {archive} is damaged ({error}): the records in it count as lost", file=sys.stderr)
