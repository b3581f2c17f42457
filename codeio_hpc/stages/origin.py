"""Where raw files lie: the files of a run's sources, their names as text, and reading them without being led astray."""

from __future__ import annotations

import heapq
import importlib.metadata
import os
import re
import stat
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from codeio_hpc.config.run import RunConfig, Source, settings_hash
from codeio_hpc.errors import UserError
from codeio_hpc.stages.records import Record, is_record_file, read_dataset, read_record_file
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import SOURCES

STDLIB_EXCLUDE = (
    "site-packages/**",
    "dist-packages/**",
    "test/**",
    "**/test/**",
    "**/tests/**",
    "idlelib/**",
    "lib2to3/**",
    "turtledemo/**",
    "ensurepip/**",
    "config-*/**",
)
"""Never counted as the standard library's own source: other packages, its tests, and its bundled programs."""

_ESCAPED = re.compile(r"\\(?:\\|x([0-9a-f]{2}))")


class UnreadableFileError(Exception):
    """A file is gone, no regular file, not permitted, or lies outside its source's root."""


def path_as_text(path: str) -> str:
    r"""A file name as valid, printable UTF-8: control characters and undecodable bytes as ``\xNN``, ``\`` doubled."""

    def escape(character: str) -> str:
        if character == "\\":
            return "\\\\"
        if character.isprintable():
            return character
        return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))

    return "".join(escape(character) for character in os.fsencode(path).decode("utf-8", "surrogateescape"))


def path_from_text(text: str) -> str:
    """The inverse of :func:`path_as_text`."""

    def restore(match: re.Match[str]) -> str:
        return "\\" if match[1] is None else bytes([int(match[1], 16)]).decode("latin-1")

    pieces, last = b"", 0
    for match in _ESCAPED.finditer(text):
        pieces += text[last : match.start()].encode("utf-8") + restore(match).encode("latin-1")
        last = match.end()
    return os.fsdecode(pieces + text[last:].encode("utf-8"))


def list_sources(config: RunConfig) -> Iterator[Row]:
    """The rows of the sources table: every raw file of every source, in a fixed order.

    Order: sources as configured, files by name, records as they lie. Of a source with more than ``max_files``, those
    with the smallest hash of run seed and path are taken, so that the choice is spread over all folders. At most
    ``max_files`` records are held in memory.

    Raises:
        UserError: a missing folder, an unknown distribution or dataset, a file of records that cannot be read, or a
            source without any file.
    """
    for source in config.sources:
        rows = _rows_of(source)
        if source.max_files is not None:
            chosen = heapq.nsmallest(source.max_files, enumerate(rows), key=lambda item: _lot(config, item[1]))
            rows = (row for _, row in sorted(chosen, key=lambda item: item[0]))
        if source.stdlib or source.distribution is not None:
            rows = _with_content(rows, root_of(source), config.collect.max_bytes)
        first = next(rows, None)
        if first is None:
            raise UserError(
                f"source '{source.name}': no file of {_place(source)} is chosen",
                f"include {list(source.include)} and exclude {list(source.exclude)} leave nothing",
                "change the source's include and exclude patterns, or where it points",
            )
        yield first
        yield from rows


def _with_content(rows: Iterator[Row], root: Path, limit: int) -> Iterator[Row]:
    """The rows with what their files hold: of an installation, and a task may run in a container that has another."""
    for row in rows:
        is_record = row["content"] is not None or row["problem"] is not None
        yield row if is_record else row | _content(root, row["path"], limit)


def _content(root: Path, path: str, limit: int) -> Row:
    try:
        data = read_below(root, path, limit + 1)
        if len(data) > limit:
            return {"problem": f"too_long: more than {limit} bytes"}
        return {"content": data.decode("utf-8")}
    except UnreadableFileError as error:
        return {"problem": f"unreadable: {error}"}
    except UnicodeDecodeError as error:
        return {"problem": f"not_utf8: byte {error.start}: {error.reason}"}


def _lot(config: RunConfig, row: Row) -> str:
    return settings_hash([config.seed, "sources", row["path"]])


def _rows_of(source: Source) -> Iterator[Row]:
    if source.dataset is not None:
        for record in read_dataset(source.dataset, source.split, source):
            yield _record_row(source, source.split, record)
        return
    root = root_of(source)
    for name in sorted(files_of(source), key=os.fsencode):
        path = path_as_text(name)
        if is_record_file(name) or source.form != "file":
            for record in read_record_file(root / name, source):
                yield _record_row(source, path, record)
        else:
            yield _row(source, path, source.licence)


def _record_row(source: Source, path: str, record: Record) -> Row:
    row = _row(source, f"{path}:{record.number}", record.licence or source.licence)
    return row | {"content": record.content, "problem": record.problem, "provenance": record.provenance}


def _row(source: Source, path: str, licence: str) -> Row:
    return {
        "source_id": SOURCES.row_id(source.name, path),
        "language": "python",
        "source": source.name,
        "path": path,
        "licence": licence,
        "form": source.form,
        "provenance": "{}",
        "content": None,
        "problem": None,
    }


def _place(source: Source) -> str:
    if source.path is not None:
        return f"'{source.path}'"
    if source.dataset is not None:
        return f"dataset '{source.dataset}'"
    return f"distribution '{source.distribution}'" if source.distribution else "the standard library"


def root_of(source: Source) -> Path:
    """The folder that a source's paths are relative to.

    Raises:
        UserError: it does not exist.
    """
    if source.stdlib:
        return Path(sysconfig.get_path("stdlib"))
    if source.distribution is not None:
        return Path(str(_distribution(source).locate_file("")))
    path = Path(source.path or "").expanduser()
    if not path.exists():
        raise UserError(
            f"source '{source.name}': {path} does not exist", "its files are read from there", "correct its path"
        )
    return path if path.is_dir() else path.parent


def _distribution(source: Source) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(source.distribution or "")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"source '{source.name}': distribution '{source.distribution}' is not installed",
            "its source files are read from where it is installed",
            f"install it (pip install {source.distribution}), or leave the source out",
        ) from None


def files_of(source: Source) -> Iterator[str]:
    """Names of a source's chosen files, relative to its root."""
    root = root_of(source)
    exclude = source.exclude + (STDLIB_EXCLUDE if source.stdlib else ())
    if source.path is not None and Path(source.path).expanduser().is_file():
        yield Path(source.path).name  # a file named outright needs no pattern
        return
    names = _installed(source) if source.distribution is not None else _walk(root, exclude)
    for name in names:
        if _matches(name, source.include) and not _matches(name, exclude) and is_below(root, name):
            yield name


def _installed(source: Source) -> Iterator[str]:
    for file in _distribution(source).files or ():
        if file.suffix == ".py" and ".." not in file.parts:
            yield str(file)


def _walk(root: Path, exclude: tuple[str, ...]) -> Iterator[str]:
    """Names of all files below ``root``; links to folders are not entered, so there are no loops."""
    for folder, folders, files in os.walk(root, followlinks=False):
        relative = os.path.relpath(folder, root)
        prefix = "" if relative == "." else f"{relative}/"
        folders[:] = [name for name in folders if not _matches(f"{prefix}{name}/", exclude)]
        for name in files:
            yield prefix + name


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(_pattern(pattern).fullmatch(name) for pattern in patterns)


@lru_cache(maxsize=1024)
def _pattern(glob: str) -> re.Pattern[str]:
    """A glob over whole relative paths: ``**/`` is any number of folders, ``*`` and ``?`` stay within a name."""
    pieces = re.findall(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|.", glob, re.DOTALL)
    translated = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    text = ""
    for piece in pieces:
        if len(piece) > 2 and piece[0] == "[":
            body = piece[1:-1].replace("\\", "\\\\")
            text += f"[^{body[1:]}]" if body[0] == "!" else f"[{body}]"
        else:
            text += translated.get(piece, re.escape(piece))
    try:
        return re.compile(text, re.DOTALL)
    except re.error as error:
        raise UserError(f"pattern '{glob}': {error}", "it is not a valid file pattern", "correct it") from None


def is_below(root: Path, name: str) -> bool:
    """Whether the file, links resolved, lies below ``root``."""
    real = os.path.realpath(root)
    return os.path.realpath(os.path.join(real, name)).startswith(real.rstrip("/") + "/")


def read_below(root: Path, path: str, limit: int) -> bytes:
    """At most ``limit`` bytes of the file that a source row's ``path`` names below ``root``.

    Raises:
        UnreadableFileError: see there. Pipes and devices are refused without waiting for them.
    """
    name = path_from_text(path)
    if not is_below(root, name):
        raise UnreadableFileError("a link that leads out of its source's folder")
    try:
        descriptor = os.open(os.path.join(root, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableFileError("not a regular file")
            return file.read(limit)
    except OSError as error:
        raise UnreadableFileError(error.strerror or type(error).__name__) from None
    except ValueError:
        raise UnreadableFileError("not a possible file name") from None
