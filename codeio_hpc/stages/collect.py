"""collect: raw files, read, normalised, filtered, and of equal and almost equal ones the first."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from codeio_hpc.config.run import CollectSettings, RunConfig, Source
from codeio_hpc.stages.base import Context, GatherStage, RefusedRowError, Rejection
from codeio_hpc.stages.duplicates import find_duplicates, keep_first, sketch_of
from codeio_hpc.stages.near_duplicates import sign
from codeio_hpc.stages.origin import UnreadableFileError, list_sources, read_below, root_of
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import FILES, SOURCES, Table

__all__ = ["Collect", "list_sources"]

_GENERATED = re.compile(
    r"@generated\b|\b(?:auto(?:matically)?[- ]?|machine[- ])generated\b|\bdo not edit\b"
    r"|^\W*(?:this \w+ (?:is|was|has been) )?generated (?:by|from|using|with)\b",
    re.IGNORECASE,
)
"""What generators of code write into the head of their files."""
_HEAD_LINES = 12


class Collect(GatherStage):
    """Read every source file; the first of (almost) equal contents wins, in the order of the sources.

    Rejects: licence (not among those wanted), unreadable, not_utf8, too_short, too_long, not_parseable, generated,
    duplicate and near_duplicate (the detail names the source row that was kept), changed (the file is not
    what it was when the duplicates were looked for); of records also broken_record and no_content.
    """

    name: ClassVar[str] = "collect"
    version: ClassVar[int] = 2
    input: ClassVar[Table] = SOURCES
    output: ClassVar[Table] = FILES

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return config.collect.model_dump(mode="json", exclude={"files_per_shard"})

    def sketch(self, rows: Sequence[Row], context: Context) -> list[list[str]]:
        """For each row: source_id, then file_id and, where near-duplicates are looked for, the content's signature; or
        '', reason and detail."""
        reader, limits = _Reader(context.config), context.config.collect

        def look(row: Row) -> list[str]:
            content = reader.read(row)
            if row["form"] == "file":
                check(content, row["language"])
            return [file_id(row["language"], content), *([sign(content)] if limits.near_duplicates else [])]

        return sketch_of(rows, look)

    def decide(self, sketches: Iterator[list[list[str]]], context: Context) -> dict[str, list[str]]:
        """Reason and detail for every source_id whose content an earlier one has, or almost has."""
        return find_duplicates(sketches, context.config.collect.near_duplicates)

    def apply(
        self,
        rows: Sequence[Row],
        sketch: Sequence[Sequence[str]],
        decision: Mapping[str, Sequence[str]],
        context: Context,
    ) -> Iterable[Row | Rejection]:
        reader = _Reader(context.config)
        return keep_first(rows, sketch, decision, lambda row: _file(row, reader.read(row)))


def _file(row: Row, content: str) -> tuple[Row, str]:
    identity = file_id(row["language"], content)
    origin = {name: row[name] for name in ("source_id", "language", "source", "path", "licence", "form", "provenance")}
    return {"file_id": identity, **origin, "content": content}, identity


def file_id(language: str, content: str) -> str:
    """The id of a file: the hash of its language and normalised content."""
    return FILES.row_id(language, content)


class _Reader:
    """Reads the files of source rows, below the roots of their sources."""

    def __init__(self, config: RunConfig) -> None:
        self._limits: CollectSettings = config.collect
        self._sources: dict[str, Source] = {source.name: source for source in config.sources}
        self._roots: dict[str, Path] = {}

    def read(self, row: Row) -> str:
        """The normalised content of a source row's file.

        Raises:
            RefusedRowError: licence, unreadable, not_utf8, too_short or too_long (by the bytes as they are), or what
                is wrong with the record.
        """
        if self._limits.licences is not None and row["licence"] not in self._limits.licences:
            raise RefusedRowError("licence", f"'{row['licence']}' is not among those wanted")
        data = self._data(row)
        if len(data) > self._limits.max_bytes:
            raise RefusedRowError("too_long", f"more than {self._limits.max_bytes} bytes")
        if len(data) < self._limits.min_bytes:
            raise RefusedRowError("too_short", f"{len(data)} bytes, fewer than {self._limits.min_bytes}")
        return normalise(data)

    def _data(self, row: Row) -> bytes:
        if row["problem"] is not None:
            reason, _, detail = row["problem"].partition(": ")
            raise RefusedRowError(reason, detail)
        if row["content"] is not None:
            return str(row["content"]).encode("utf-8")
        name = row["source"]
        if name not in self._roots:
            self._roots[name] = root_of(self._sources[name])
        try:
            return read_below(self._roots[name], row["path"], self._limits.max_bytes + 1)
        except UnreadableFileError as error:
            raise RefusedRowError("unreadable", str(error)) from None


def normalise(data: bytes) -> str:
    """Text with line feeds only, four spaces for each tab, and without a byte order mark.

    Raises:
        RefusedRowError: not_utf8.
    """
    try:
        text = data.decode("utf-8-sig", "strict")
    except UnicodeDecodeError as error:
        raise RefusedRowError("not_utf8", f"byte {error.start}: {error.reason}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")


def check(content: str, language: str) -> None:
    """Raise RefusedRowError where normalised content is of no use: not_parseable, generated."""
    head = "\n".join(content.split("\n", _HEAD_LINES)[:_HEAD_LINES])
    for line in head.split("\n"):
        if (mark := _GENERATED.search(line)) and _is_remark(line):
            raise RefusedRowError("generated", f"its head says: {mark.group(0).strip()[:80]}")
    if language == "python":
        _parse(content)


def _is_remark(line: str) -> bool:
    """A line of a comment or of a docstring's prose, as far as one line can tell."""
    return line.lstrip().startswith("#") or not re.search(r"[=({]", line)


def _parse(content: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            ast.parse(content)
    except SyntaxError as error:
        raise RefusedRowError("not_parseable", f"line {error.lineno}: {error.msg}") from None
    except (RecursionError, MemoryError, ValueError) as error:
        # ValueError: null bytes; the others: expressions nested deeper than the parser's stack
        raise RefusedRowError("not_parseable", f"{type(error).__name__}: {error}".rstrip(": ")) from None
