"""Shard files: whole or not there, self-describing, the same bytes for the same rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from codeio_hpc.tables import DamagedShardError, Identity
from codeio_hpc.tables.schemas import FILES, SOURCES, TABLES
from codeio_hpc.tables.shards import (
    content_checksum,
    is_valid,
    part_path,
    publish_file,
    publish_shard,
    published_shards,
    read_footer,
    read_rejected,
    read_shard,
    rejected_path,
    to_arrow,
)

IDENTITY = Identity(SOURCES, "collect", 1, "settings", "input", 7)


def rows(count: int) -> list[dict[str, str | None]]:
    return [
        {
            "source_id": SOURCES.row_id(str(i)),
            "language": "python",
            "source": "s",
            "path": f"é{i}\n",
            "licence": "MIT",
            "form": "file",
            "provenance": "{}",
            "content": None,
            "problem": None,
        }
        for i in range(count)
    ]


REJECTION = {
    "row_id": "a",
    "parent_id": None,
    "stage": "collect",
    "reason": "not_utf8",
    "detail": "",
    "language": "python",
}


def test_what_is_published_is_read_back(tmp_path: Path) -> None:
    publish_shard(tmp_path, IDENTITY, rows(5000), [REJECTION])
    assert read_shard(part_path(tmp_path, 7)) == rows(5000)
    assert read_rejected(tmp_path, 7) == [REJECTION]
    assert published_shards(tmp_path) == [7]


def test_no_changed_byte_goes_unseen(tmp_path: Path) -> None:
    """Parquet readers pass over some changed bytes; a shard that is not as it was published is damaged all the same."""
    publish_shard(tmp_path, IDENTITY, rows(3), [REJECTION])
    path = part_path(tmp_path, 7)
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        path.write_bytes(changed)
        with pytest.raises(DamagedShardError):
            read_shard(path)
    rejected = rejected_path(tmp_path, 7)
    rejected.write_bytes(rejected.read_bytes()[:20] + b"\xee" + rejected.read_bytes()[21:])
    with pytest.raises(DamagedShardError):
        read_rejected(tmp_path, 7)


def test_reading_starts_no_threads(tmp_path: Path) -> None:
    """One that still runs when the interpreter ends can abort it, after all work was done."""
    publish_shard(tmp_path, IDENTITY, rows(9000), [REJECTION])
    program = f"""
import os
from pathlib import Path
from codeio_hpc.tables.shards import part_path, read_footer, read_shard
folder = Path({str(tmp_path)!r})
before = len(os.listdir("/proc/self/task"))
assert len(read_shard(part_path(folder, 7))) == 9000 and read_footer(part_path(folder, 7))
print(len(os.listdir("/proc/self/task")) - before)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "0\n"


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    publish_shard(tmp_path / "a", IDENTITY, rows(9000), [REJECTION])
    publish_shard(tmp_path / "b", IDENTITY, rows(9000), [REJECTION])
    assert part_path(tmp_path / "a", 7).read_bytes() == part_path(tmp_path / "b", 7).read_bytes()
    assert rejected_path(tmp_path / "a", 7).read_bytes() == rejected_path(tmp_path / "b", 7).read_bytes()


def test_the_checksum_does_not_depend_on_chunks() -> None:
    whole = to_arrow(SOURCES, rows(100))
    import pyarrow as pa

    pieces = pa.concat_tables([whole.slice(0, 33), whole.slice(33)])
    assert content_checksum(whole) == content_checksum(pieces)
    assert content_checksum(whole) != content_checksum(whole.slice(1))


def test_an_empty_shard_is_a_shard(tmp_path: Path) -> None:
    publish_shard(tmp_path, IDENTITY, [], [])
    assert is_valid(tmp_path, IDENTITY) and read_shard(part_path(tmp_path, 7)) == []


@pytest.mark.parametrize("change", ["stage", "settings", "input"])
def test_a_shard_made_otherwise_is_not_valid(tmp_path: Path, change: str) -> None:
    publish_shard(tmp_path, IDENTITY, rows(3), [])
    assert is_valid(tmp_path, IDENTITY)
    assert not is_valid(tmp_path, replace(IDENTITY, **{change: "other"}))
    assert not is_valid(tmp_path, replace(IDENTITY, stage_version=2))


def test_a_shard_without_its_rejected_rows_is_not_valid(tmp_path: Path) -> None:
    publish_shard(tmp_path, IDENTITY, rows(3), [REJECTION])
    rejected_path(tmp_path, 7).unlink()
    assert not is_valid(tmp_path, IDENTITY)


def test_republishing_without_rejections_removes_the_old_ones(tmp_path: Path) -> None:
    publish_shard(tmp_path, IDENTITY, rows(3), [REJECTION])
    publish_shard(tmp_path, IDENTITY, rows(3), [])
    assert read_rejected(tmp_path, 7) == []


@pytest.mark.parametrize("cut", [0, 1, 4, 100, -1, -20])
def test_a_cut_file_is_no_shard(tmp_path: Path, cut: int) -> None:
    publish_shard(tmp_path, IDENTITY, rows(50), [])
    path = part_path(tmp_path, 7)
    path.write_bytes(path.read_bytes()[:cut])
    assert not is_valid(tmp_path, IDENTITY)
    with pytest.raises(DamagedShardError):
        read_shard(path)


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    publish_shard(tmp_path, IDENTITY, rows(500), [])
    path = part_path(tmp_path, 7)
    data = bytearray(path.read_bytes())
    for offset in range(40, 4000, 97):
        changed = bytearray(data)
        changed[offset] ^= 0x40
        path.write_bytes(changed)
        with pytest.raises(DamagedShardError):
            read_shard(path)


def test_another_programs_parquet_file_is_no_shard(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(to_arrow(SOURCES, rows(2)), part_path(tmp_path, 0))
    assert read_footer(part_path(tmp_path, 0)) is None


def test_rows_that_do_not_fit_the_schema_are_refused() -> None:
    with pytest.raises(ValueError, match="licence"):
        to_arrow(SOURCES, [{key: value for key, value in rows(1)[0].items() if key != "licence"}])
    with pytest.raises(ValueError, match="must not be null"):
        to_arrow(SOURCES, [{**rows(1)[0], "licence": None}])


def test_what_replaces_an_outdated_shard_is_another_file(tmp_path: Path) -> None:
    """The index of a folder knows a file by its inode number, and many file systems give a freed one away at once."""
    for number in range(20):
        publish_shard(tmp_path, replace(IDENTITY, settings=str(number)), [], [])
        before = part_path(tmp_path, 7).stat().st_ino
        publish_shard(tmp_path, replace(IDENTITY, settings=f"{number}, changed"), [], [])
        assert part_path(tmp_path, 7).stat().st_ino != before


def test_exclusive_publishing_keeps_the_first(tmp_path: Path) -> None:
    publish_file(tmp_path / "x", b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        publish_file(tmp_path / "x", b"second", exclusive=True)
    assert (tmp_path / "x").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    """/dev/full's kin: a file size limit makes the write fail half-way."""
    code = f"""
import resource, signal
from pathlib import Path
from codeio_hpc.tables.files import publish_file
publish_file(Path({str(tmp_path)!r}) / "x", b"old")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    publish_file(Path({str(tmp_path)!r}) / "x", b"n" * 100_000)
except OSError as error:
    print("failed", error.errno)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("failed")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_killed_writer_never_leaves_a_partial_shard(tmp_path: Path) -> None:
    code = f"""
import itertools
from pathlib import Path
from codeio_hpc.tables import Identity
from codeio_hpc.tables.schemas import SOURCES
from codeio_hpc.tables.shards import publish_shard
row = dict(source_id="s", language="python", source="s", path="p", licence="x")
print("up", flush=True)
for number in itertools.count():
    rows = [row | dict(source_id=str(i)) for i in range(2000)]
    publish_shard(Path({str(tmp_path)!r}), Identity(SOURCES, "c", 1, "s", "i", number % 50), rows, [])
"""
    for pause in (0.01, 0.05, 0.12):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(pause)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        for shard in published_shards(tmp_path):
            assert len(read_shard(part_path(tmp_path, shard))) == 2000


def test_ids_depend_on_every_part_and_on_where_it_ends() -> None:
    assert FILES.row_id("ab", "c") != FILES.row_id("a", "bc")
    assert FILES.row_id("\ud800") != FILES.row_id("?")


def test_every_table_names_its_id_and_parent_among_its_columns() -> None:
    for table in TABLES.values():
        names = table.schema.names
        assert table.id in names and "language" in names
        assert table.parent is None or table.parent in names
