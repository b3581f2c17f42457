"""What the footers in a folder say, without opening every file each time.

The footer of a shard decides whether it is valid, and to read those of 100,000 shards takes long, above all on a shared
file system. So what was read is kept in one file a stage, beside each shard's inode number, size and time of change;
only what differs is read again. The index is never needed: removed, it is made anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codeio_hpc.tables.files import publish_file
from codeio_hpc.tables.shards import Footer, read_footer

_WORTH_SAVING = 500
"""An index is written when so many footers were read that were not in it: small runs have none."""

Signature = tuple[int, int, int]
"""Inode number, size in bytes, time of change in ns."""


class FolderIndex:
    """The footers of a stage's files of one kind.

    Args:
        folder: the stage's folder.
        saved: where the index is kept.
        kind: what the names of the files begin with; ``part`` or ``sketch``.
        read: reads the footer of one file; None if it is damaged.
    """

    def __init__(
        self, folder: Path, saved: Path, kind: str = "part", read: Callable[[Path], Footer | None] = read_footer
    ) -> None:
        self._folder, self._saved, self._kind, self._read = folder, saved, kind, read

    def footers(self) -> dict[int, Footer]:
        """Shard -> what its file says, of every file that is there and readable."""
        names = names_in(self._folder)
        known = self._load()
        found: dict[int, Footer] = {}
        signatures: list[Signature] = []
        fresh = 0
        prefix = f"{self._kind}-"
        for name in names:
            if not name.startswith(prefix):
                continue
            shard = shard_of(name)
            if shard is None or (signature := _signature(f"{self._folder}/{name}")) is None:
                continue
            entry = known.get(shard)
            if entry is not None and entry[0] == signature:
                footer: Footer | None = entry[1]
            else:
                footer = self._read(self._folder / name)
                fresh += 1
            if footer is not None and not (footer.rejected and f"rejected-{shard:05d}.parquet" not in names):
                found[shard] = footer
                signatures.append(signature)
        if fresh >= _WORTH_SAVING:
            self._save(found, signatures)
        return found

    def totals(self) -> Totals:
        """How many files there are, and how many rows are in those that the index knows. Looks at names only."""
        prefix = f"{self._kind}-"
        present = {name for name in names_in(self._folder) if name.startswith(prefix)}
        table = self._table()
        if table is None:
            return Totals(present, 0, 0)
        shards = table.column("shard").to_pylist()
        suffix = ".parquet" if self._kind == "part" else ".json"
        indexed = {f"{prefix}{shard:05d}{suffix}" for shard in shards}
        if not indexed <= present:  # some were removed to be made again
            return Totals(present, 0, 0)
        rows, rejected = (sum(table.column(name).to_pylist()) for name in ("rows", "rejected"))
        return Totals(present - indexed, rows, rejected, len(indexed))

    def _table(self) -> pa.Table | None:
        try:
            return pq.ParquetFile(self._saved).read(use_threads=False)  # read_table would import pandas
        except (OSError, pa.ArrowException):
            return None

    def _load(self) -> dict[int, tuple[Signature, Footer]]:
        table = self._table()
        if table is None or table.column_names != _COLUMNS:
            return {}
        inode, size, changed, *footer = (column.to_pylist() for column in table.columns)
        entries = zip(zip(inode, size, changed, strict=True), map(Footer._make, zip(*footer, strict=True)), strict=True)
        return {entry[1].shard: entry for entry in entries}

    def _save(self, footers: dict[int, Footer], signatures: list[Signature]) -> None:
        columns: list[list[Any]] = [list(column) for column in zip(*signatures, strict=True)]
        columns += [list(column) for column in zip(*footers.values(), strict=True)]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(dict(zip(_COLUMNS, columns, strict=True))), sink, compression="zstd")
        publish_file(self._saved, bytes(sink.getvalue()))


_COLUMNS = ["inode", "size", "changed", *Footer._fields]


class Totals:
    """What names and index tell of a folder.

    Attributes:
        unread: names of files that the index does not know.
        rows, rejected: of those that it knows.
        known: how many it knows.
    """

    def __init__(self, unread: set[str], rows: int, rejected: int, known: int = 0) -> None:
        self.unread, self.rows, self.rejected, self.known = unread, rows, rejected, known


def names_in(folder: Path) -> set[str]:
    """Names of everything in a folder; none if it is not there."""
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def shard_of(name: str) -> int | None:
    """7 of ``part-00007.parquet``; None of another name."""
    digits = name.partition("-")[2].partition(".")[0]
    return int(digits) if digits.isdigit() else None


def _signature(path: str) -> Signature | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
