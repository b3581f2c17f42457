"""Plans: what is missing, and how that is seen without opening every file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from codeio_hpc.launch.progress import clock
from codeio_hpc.tables import Identity
from codeio_hpc.tables import index as index_module
from codeio_hpc.tables.index import FolderIndex
from codeio_hpc.tables.schemas import SOURCES
from codeio_hpc.tables.shards import Footer, part_path, publish_shard, published_shards, read_footer, shard_of


def test_seconds_are_shown_as_people_read_them() -> None:
    assert [clock(0), clock(42), clock(723), clock(11110)] == ["0:00", "0:42", "12:03", "3:05:10"]


def publish(folder: Path, shard: int, settings: str = "s") -> None:
    publish_shard(folder, Identity(SOURCES, "listing", 1, settings, "", shard), [], [])


class Reader:
    """Reads footers, and remembers of which files."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, path: Path) -> Footer | None:
        self.names.append(path.name)
        return read_footer(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(index_module, "_WORTH_SAVING", 3)
    for shard in range(5):
        publish(tmp_path / "stage", shard)
    return tmp_path / "stage"


ORIGIN = Identity(SOURCES, "listing", 1, "s", "", 0).origin


def test_a_footer_is_read_once_and_again_when_its_file_was_published_anew(folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "index" / "stage.parquet"
    first = FolderIndex(folder, saved).made(ORIGIN)
    footer = read_footer(part_path(folder, 2))
    assert footer is not None and first[2] == (footer.input, footer.checksum, footer.rows)
    assert sorted(first) == [0, 1, 2, 3, 4]
    reader = Reader()
    assert FolderIndex(folder, saved, read=reader).made(ORIGIN) == first and reader.names == []
    part_path(folder, 1).unlink()
    publish(folder, 3, settings="other")
    truncated = part_path(folder, 4).read_bytes()[:-9]
    (folder / "new").write_bytes(truncated)
    os.replace(folder / "new", part_path(folder, 4))
    publish(folder, 5)
    index = FolderIndex(folder, saved, read=reader)
    assert sorted(index.made(ORIGIN)) == [0, 2, 5]
    assert sorted(reader.names) == ["part-00003.parquet", "part-00004.parquet", "part-00005.parquet"]
    assert sorted(index.made((*ORIGIN[:4], "other"))) == [3]


def test_what_a_listing_and_the_index_tell_without_opening_a_file(folder: Path, tmp_path: Path) -> None:
    index = FolderIndex(folder, tmp_path / "index" / "stage.parquet")
    assert (index.totals().known, len(index.totals().unread)) == (0, 5)
    index.made(ORIGIN)
    publish(folder, 7)
    totals = index.totals()
    assert (totals.known, totals.rows, totals.unread) == (5, 0, {"part-00007.parquet"})


def test_copies_that_somebody_keeps_beside_shards_count_as_nothing(folder: Path, tmp_path: Path) -> None:
    index = FolderIndex(folder, tmp_path / "index" / "stage.parquet")
    before = index.made(ORIGIN)
    for name in ("part-00000.parquet.bak", "part-00000 (1).parquet", "part-0.parquet", "part-000001.parquet", "part-x"):
        shutil.copy(part_path(folder, 4), folder / name)
    assert index.made(ORIGIN) == before and index.totals().known == 5 and not index.totals().unread
    assert published_shards(folder) == [0, 1, 2, 3, 4]
    names = [
        "sketch-00007.json",
        "sketch-123456.json",
        "sketch-00007.json~",
        "part-00007.parquet",
        "sketch-00007.parquet",
    ]
    assert [shard_of(name, "sketch") for name in names] == [7, 123456, None, None, None]


def test_a_damaged_index_is_made_anew_and_a_small_folder_has_none(folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "index" / "stage.parquet"
    FolderIndex(folder, saved).made(ORIGIN)
    saved.write_bytes(b"rubbish")
    assert sorted(FolderIndex(folder, saved).made(ORIGIN)) == [0, 1, 2, 3, 4]
    publish(tmp_path / "small", 0)
    FolderIndex(tmp_path / "small", tmp_path / "index" / "small.parquet").made(ORIGIN)
    assert os.listdir(tmp_path / "index") == ["stage.parquet"]


def test_a_shard_whose_rejected_rows_are_gone_is_not_there(tmp_path: Path) -> None:
    rejected = {"row_id": "r", "parent_id": None, "stage": "s", "reason": "x", "detail": "", "language": "python"}
    publish_shard(tmp_path / "stage", Identity(SOURCES, "listing", 1, "s", "", 0), [], [rejected])
    index = FolderIndex(tmp_path / "stage", tmp_path / "index.parquet")
    assert list(index.made(ORIGIN)) == [0]
    (tmp_path / "stage" / "rejected-00000.parquet").unlink()
    assert list(index.made(ORIGIN)) == []
