"""What the footers in a folder say, without opening every file each time.

The footer of a shard decides whether it is valid, and to read those of 100,000 shards takes long, above all on a shared
file system. So what was read is kept in one file a stage, beside each file's name and inode number, which a listing of
the folder tells; a file that was published anew has another number, and only such files are read again. The index may
be removed: it is made anew. (It does not see that a file was damaged where it lies; whoever reads that does.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codeio_hpc.tables.files import publish_file
from codeio_hpc.tables.shards import Footer, read_footer, shard_of

_WORTH_SAVING = 500
"""An index is written when so many footers were read that were not in it: small runs have none."""

_SCHEMA = pa.schema(
    [("name", pa.string()), ("inode", pa.uint64())]
    + [(name, pa.int64() if kind is int else pa.string()) for name, kind in get_type_hints(Footer).items()]
)

Made = tuple[str, str, int]
"""Of a shard: checksum of its input, checksum of its content, its rows. A plain tuple: there are very many."""


@dataclass(frozen=True)
class Totals:
    """What a listing and the index tell of a folder."""

    known: int
    """Files that the index knows."""
    rows: int
    rejected: int
    """Both of those."""
    unread: set[str]
    """Names of the others."""


class FolderIndex:
    """The footers of a stage's files of one kind.

    Args:
        folder: the stage's folder.
        saved: where the index is kept.
        kind: of its files; ``part`` or ``sketch``.
        read: reads the footer of one file; None if it is damaged.
        may_save: whether it may be kept. That it cannot be is no error.
    """

    def __init__(
        self,
        folder: Path,
        saved: Path,
        kind: str = "part",
        read: Callable[[Path], Footer | None] = read_footer,
        may_save: bool = True,
    ) -> None:
        self._folder, self._saved, self._kind, self._read = folder, saved, kind, read
        self._may_save = may_save

    def made(self, origin: tuple[Any, ...]) -> dict[int, Made]:
        """What is published and readable, by shard.

        Args:
            origin: table, schema version, stage, stage version and settings; files of any other are passed over.
        """
        table = self._refreshed()
        for name, value in zip(Footer._fields, origin, strict=False):
            column = table[name]
            if len(column) and pc.unique(column).to_pylist() != [value]:
                table = table.filter(pc.equal(column, value))
        columns = (table[name].to_pylist() for name in ("input", "checksum", "rows"))
        return dict(zip(table["shard"].to_pylist(), zip(*columns, strict=True), strict=True))

    def totals(self) -> Totals:
        """How many files there are, and how many rows are in those that the index knows. Opens none of them."""
        everything = names_in(self._folder)
        table = self._load(["name", "rows", "rejected"])
        names = set(table["name"].to_pylist())
        if not names <= everything:  # some were removed, to be made again
            return Totals(0, 0, 0, {name for name in everything if shard_of(name, self._kind) is not None})
        rows, rejected = (pc.sum(table[name]).as_py() or 0 for name in ("rows", "rejected"))
        unread = {name for name in everything - names if shard_of(name, self._kind) is not None}
        return Totals(len(names), rows, rejected, unread)

    def _refreshed(self) -> pa.Table:
        present, others = self._listing()
        table = self._load()
        known = dict(zip(table["name"].to_pylist(), table["inode"].to_pylist(), strict=True))
        if known != present:
            stays = [present.get(name) == inode for name, inode in known.items()]
            table = table.filter(pa.array(stays, pa.bool_()))
            table = self._with(table, present, sorted(present.keys() - set(table["name"].to_pylist())))
        rejecting = table.filter(pc.greater(table["rejected"], 0))["shard"].to_pylist()
        if gone := [shard for shard in rejecting if f"rejected-{shard:05d}.parquet" not in others]:
            table = table.filter(pc.invert(pc.is_in(table["shard"], pa.array(gone))))
        return table

    def _with(self, table: pa.Table, present: dict[str, int], names: list[str]) -> pa.Table:
        footers = [(name, self._read(self._folder / name)) for name in names]
        rows = [(name, present[name], *footer) for name, footer in footers if footer is not None]
        columns = list(zip(*rows, strict=True)) or [()] * len(_SCHEMA)
        table = pa.concat_tables([table, pa.table([list(column) for column in columns], schema=_SCHEMA)])
        if len(names) >= _WORTH_SAVING and self._may_save:
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd")
            with suppress(OSError):
                publish_file(self._saved, bytes(sink.getvalue()))
        return table

    def _listing(self) -> tuple[dict[str, int], set[str]]:
        """Name -> inode number of the files of this kind, and the names of all others."""
        present: dict[str, int] = {}
        others = set()
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if shard_of(entry.name, self._kind) is not None:
                        present[entry.name] = entry.inode()
                    else:
                        others.add(entry.name)
        except FileNotFoundError:
            pass
        return present, others

    def _load(self, columns: list[str] | None = None) -> pa.Table:
        """The saved index, or some columns of it."""
        try:
            file = pq.ParquetFile(self._saved)  # read_table would import pandas
            if file.schema_arrow.equals(_SCHEMA):
                return file.read(columns, use_threads=False)
        except (OSError, pa.ArrowException):
            pass
        return pa.Table.from_batches([], schema=_SCHEMA)  # empty_table() would import pandas


def names_in(folder: Path) -> set[str]:
    """Names of everything in a folder; none if it is not there."""
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
