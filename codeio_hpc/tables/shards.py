"""Shard files: write, publish, find, verify.

A shard is one self-describing Parquet file. What makes it valid stands in its own footer: nothing beside it can get
out of step. Publishing is: temporary name, fsync, rename, fsync of the folder. Whatever is found under its final
name is whole; a killed writer leaves only a temporary file that nobody reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from codeio_hpc.errors import RunFailedError
from codeio_hpc.tables.files import publish_file
from codeio_hpc.tables.schemas import REJECTED, Table

Row = dict[str, Any]

_FOOTER_KEY = b"codeio"
_HASH_KEY = b"codeio-sha256"
"""Metadata: SHA-256 (hex) of the file, taken with zeros in the place of this hash. Parquet readers pass over some
damaged bytes in silence; this does not."""
_FOOTER_TEXT = re.compile(re.escape(_FOOTER_KEY) + rb"[^{]{1,8}(\{[^{}]*\})")
"""The footer in a file's metadata: key, length and text stand there one after the other (Thrift's compact protocol).
Arrow's own reader takes ten times as long to get there, and a run has many files."""
_NO_HASH = b"0" * 64
_ROW_GROUP = 4096
"""Rows of a row group; fixed, because it shapes the bytes."""


_AT_ONCE = 64
"""Rows that are turned into Python's objects together: a packed sequence has thousands of them."""


class Footer(NamedTuple):
    """What a shard says of itself."""

    table: str
    schema_version: int
    stage: str
    stage_version: int
    settings: str
    """Hash of the settings that matter to the stage."""
    input: str
    """Checksum of the content of the shard (or shards) this one was made from."""
    shard: int
    rows: int
    rejected: int
    checksum: str
    """SHA-256 of the content, independent of the Parquet encoding."""


class DamagedShardError(RunFailedError):
    """A shard's content is not what its footer says, or it cannot be read at all."""


def stage_folder(stages: Path, stage: str) -> Path:
    """The folder of a stage by its name; the number before it depends on the run's configuration."""
    return next(iter(sorted(stages.glob(f"[0-9][0-9]-{stage}"))), stages / stage)


def part_path(folder: Path, shard: int) -> Path:
    """Where shard ``shard`` of a stage is published."""
    return folder / f"part-{shard:05d}.parquet"


_NAMES = {
    "part": re.compile(r"part-([0-9]{5}|[1-9][0-9]{5,})\.parquet"),
    "sketch": re.compile(r"sketch-([0-9]{5}|[1-9][0-9]{5,})\.json"),
}


def shard_of(name: str, kind: str = "part") -> int | None:
    """7 of ``part-00007.parquet``; None of any other name, such as that of a copy that somebody keeps beside it."""
    found = _NAMES[kind].fullmatch(name)
    return int(found[1]) if found else None


def rejected_path(folder: Path, shard: int) -> Path:
    """Where the rows that the stage dropped from that shard are published; no file when there are none."""
    return folder / f"rejected-{shard:05d}.parquet"


def to_arrow(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of exactly the table's schema.

    Raises:
        ValueError: a row has unknown or missing columns, or null where none is allowed.
    """
    names = set(table.schema.names)
    for row in rows:
        if row.keys() != names:
            odd = sorted(row.keys() ^ names)
            raise ValueError(f"a row of table '{table.name}' does not fit its schema; differing columns: {odd}")
    arrow = pa.Table.from_pylist([dict(row) for row in rows], schema=table.schema)
    for field in table.schema:
        if not field.nullable and arrow.column(field.name).null_count:
            raise ValueError(f"table '{table.name}': column '{field.name}' must not be null")
    return arrow


def content_checksum(arrow: pa.Table) -> str:
    """SHA-256 (hex) of a table's values, row by row as JSON: independent of chunks, encodings and Arrow versions."""
    digest = hashlib.sha256()
    for batch in arrow.to_batches(max_chunksize=_AT_ONCE):
        for row in batch.to_pylist():
            digest.update(json.dumps(list(row.values()), ensure_ascii=True, separators=(",", ":")).encode("ascii"))
    return digest.hexdigest()


def _encode(arrow: pa.Table, metadata: Mapping[bytes, bytes]) -> bytes:
    """The file with the hash of itself in its metadata."""
    data = _write(arrow, {**metadata, _HASH_KEY: _NO_HASH})
    return _with_hash(data, _NO_HASH, hashlib.sha256(data).hexdigest().encode("ascii"))


def _with_hash(data: bytes, old: bytes, new: bytes) -> bytes:
    """The file with another hash in place of the one in its metadata."""
    place = data.index(old, data.rindex(_HASH_KEY))
    return data[:place] + new + data[place + len(old) :]


def read_table(path: Path) -> pa.Table:
    """A published file as an Arrow table.

    Raises:
        DamagedShardError: it is not there, is no such file, or any of its bytes has changed since it was published.
        OSError: reading failed, which says nothing of what is in it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedShardError(f"{path} is not there") from error
    try:
        found = (pq.read_metadata(pa.BufferReader(data)).metadata or {})[_HASH_KEY]
        if hashlib.sha256(_with_hash(data, found, _NO_HASH)).hexdigest().encode("ascii") != found:
            raise DamagedShardError(f"{path}: its bytes have changed since it was published")
        # no threads: Arrow's pools abort the interpreter at its end now and then (apache/arrow issue 34314)
        return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:  # OSError: Arrow's for a page it cannot unpack
        raise DamagedShardError(f"{path} cannot be read: {error}") from error


def _write(arrow: pa.Table, metadata: Mapping[bytes, bytes]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        arrow.replace_schema_metadata(dict(metadata)),
        sink,
        row_group_size=_ROW_GROUP,
        compression="zstd",
        compression_level=3,
        version="2.6",
        data_page_version="1.0",
        write_statistics=False,
        store_schema=True,
    )
    return bytes(sink.getvalue())


@dataclass(frozen=True)
class Identity:
    """Everything that a shard's validity depends on besides its content."""

    table: Table
    stage: str
    stage_version: int
    settings: str
    input: str
    shard: int

    @property
    def origin(self) -> tuple[Any, ...]:
        """What all valid shards of a stage have in common: the first fields of their footers."""
        return (self.table.name, self.table.version, self.stage, self.stage_version, self.settings)

    def describes(self, footer: Footer) -> bool:
        """Whether a shard with this footer is the one."""
        return (*self.origin, self.input, self.shard) == footer[:7]


def publish_shard(
    folder: Path,
    identity: Identity,
    rows: Sequence[Mapping[str, Any]],
    rejected: Sequence[Mapping[str, Any]],
    *,
    replace: bool = False,
) -> Footer | None:
    """Publish one shard and its rejected rows; the part file comes last, so that its presence means all is there.

    Returns None if a valid shard of this identity is there already: another copy of the task was first (which happens
    when the node that ran it is thought dead), and what it published stays. A damaged or outdated one is replaced, and
    with ``replace`` any that holds other rows.
    """
    arrow = to_arrow(identity.table, rows)
    footer = Footer(
        table=identity.table.name,
        schema_version=identity.table.version,
        stage=identity.stage,
        stage_version=identity.stage_version,
        settings=identity.settings,
        input=identity.input,
        shard=identity.shard,
        rows=arrow.num_rows,
        rejected=len(rejected),
        checksum=content_checksum(arrow),
    )
    stale = rejected_path(folder, identity.shard)
    if rejected:
        publish_file(stale, _encode(to_arrow(REJECTED, rejected), {}))
    else:
        stale.unlink(missing_ok=True)
    if replace and read_footer(part_path(folder, identity.shard)) == footer:
        return footer
    text = json.dumps(footer._asdict(), sort_keys=True).encode()
    part, data = part_path(folder, identity.shard), _encode(arrow, {_FOOTER_KEY: text})
    # an invalid one is replaced, not removed before: the new file could get its inode number, by which it is known
    outdated = part.exists() and not is_valid(folder, identity)
    try:
        publish_file(part, data, exclusive=not replace and not outdated)
    except FileExistsError:
        return None
    return footer


def read_footer(path: Path) -> Footer | None:
    """The footer of a published shard; None if the file is missing, damaged, or not one of ours.

    Raises:
        OSError: reading failed, which says nothing of what is in it.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        size = file.seek(0, os.SEEK_END) - 8
        if size < 0:
            return None
        file.seek(size)
        length, magic = struct.unpack("<I4s", file.read(8))
        if magic != b"PAR1" or length > size:
            return None
        file.seek(size - length)
        found = _FOOTER_TEXT.search(file.read(length))
    try:
        return Footer(**json.loads(found[1])) if found else None
    except (TypeError, ValueError):
        return None


def is_valid(folder: Path, identity: Identity) -> bool:
    """Whether the shard of this identity is published. Reads the footer only."""
    footer = read_footer(part_path(folder, identity.shard))
    if footer is None:
        return False
    if footer.rejected and not rejected_path(folder, identity.shard).exists():
        return False
    return identity.describes(footer)


def read_shard(path: Path, *, verify: bool = True) -> list[Row]:
    """All rows of a published shard.

    Raises:
        DamagedShardError: unreadable, or (``verify``) the content does not match the footer's checksum.
    """
    footer = read_footer(path)
    if footer is None:
        raise DamagedShardError(f"{path} is missing or is not a readable shard")
    arrow = read_table(path)
    if arrow.num_rows != footer.rows or (verify and content_checksum(arrow) != footer.checksum):
        raise DamagedShardError(f"{path}: content differs from what its footer says")
    rows: list[Row] = arrow.to_pylist()
    return rows


def read_rejected(folder: Path, shard: int) -> list[Row]:
    """Rows dropped from that shard, in order.

    Raises:
        DamagedShardError: the file is not as it was published.
    """
    path = rejected_path(folder, shard)
    if not path.exists():
        return []
    rows: list[Row] = read_table(path).to_pylist()
    return rows


def published_shards(folder: Path) -> list[int]:
    """Numbers of all part files of a stage, ascending, valid or not."""
    numbers = (shard_of(path.name) for path in folder.glob("part-*.parquet"))
    return sorted(number for number in numbers if number is not None)


def read_stage(folder: Path) -> Iterator[Row]:
    """All rows of a stage, shard by shard."""
    for shard in published_shards(folder):
        yield from read_shard(part_path(folder, shard))
