"""Files of records as sources: every record ends in the files table or in rejected, whatever is in the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeio_hpc.config.run import CollectSettings, RunConfig, Source
from codeio_hpc.errors import UserError
from codeio_hpc.launch.run import create_or_open_run
from codeio_hpc.stages import records
from codeio_hpc.stages.collect import Collect, list_sources
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import SOURCES
from codeio_hpc.tables.shards import to_arrow
from tests.stages.drive import context_for, run_gather

ROWS: list[dict[str, Any]] = [
    {
        "content": f"def add_{number}(first, second):\n\treturn first + second + {number}  # long enough to keep\n",
        "repo_name": "some/repo",
        "score": 3.5 + number,
        "license": "MIT" if number % 2 else "GPL-3.0",
    }
    for number in range(6)
]


def config_of(path: Path, **more: Any) -> RunConfig:
    source = Source.model_validate({"name": "here", "path": str(path), **more})
    return RunConfig(name="test", sources=(source,), collect=CollectSettings(near_duplicates=None))


def collect(config: RunConfig) -> tuple[list[Row], dict[str, str]]:
    """Kept files, and the reasons of the dropped ones by path."""
    sources = list(list_sources(config))
    to_arrow(SOURCES, sources)
    kept, rejected = run_gather(Collect(), sources, context_for(Collect(), config))
    paths = {row["source_id"]: row["path"] for row in sources}
    return kept, {paths[item.row_id]: item.reason for item in rejected}


def write(folder: Path, kind: str) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        path.write_bytes(text)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(text))
    elif kind == "jsonl.zst":
        path.write_bytes(pa.compress(text, codec="zstd", asbytes=True))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_each_record_of_every_kind_of_file_is_a_raw_file(tmp_path: Path, kind: str) -> None:
    kept, rejected = collect(config_of(write(tmp_path, kind), columns={"licence": "license"}))
    assert rejected == {}
    assert [row["content"] for row in kept] == [row["content"].replace("\t", "    ") for row in ROWS]
    assert [row["path"] for row in kept] == [f"rows.{kind}:{number}" for number in range(1, 7)]
    assert [row["licence"] for row in kept] == [row["license"] for row in ROWS]
    assert json.loads(kept[0]["provenance"]) == {"license": "GPL-3.0", "repo_name": "some/repo", "score": 3.5}


def test_a_hugging_face_dataset_is_a_source(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "plain")
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "split")
    for name in ("plain", "split"):
        source = Source(name="hf", dataset=str(tmp_path / name))
        kept, rejected = collect(RunConfig(name="test", sources=(source,)))
        assert rejected == {}
        assert [row["path"] for row in kept] == [f"train:{number}" for number in range(1, 7)]


def test_a_folder_may_hold_records_and_files(tmp_path: Path) -> None:
    write(tmp_path, "jsonl.gz")
    (tmp_path / "one.py").write_text(ROWS[0]["content"] + "# another\n")
    kept, _ = collect(config_of(tmp_path, include=["**/*.py", "**/*.jsonl.gz"]))
    assert [row["path"] for row in kept] == ["one.py", *(f"rows.jsonl.gz:{number}" for number in range(1, 7))]
    assert len(list(list_sources(config_of(tmp_path, include=["**/*.gz"], max_files=2)))) == 2


def test_every_broken_record_is_rejected_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 4096)
    good = json.dumps(ROWS[0]).encode()
    lines = [
        good,
        b"",
        b'{"content": "cut of',
        b"[1, 2]",
        b"null",
        json.dumps({"text": "no column"}).encode(),
        json.dumps({"content": 7}).encode(),
        b'{"content": "' + b"\xff" * 80 + b'"}',
        b'{"content": "' + b"\\ud800" * 80 + b'"}',
        b"[" * 3000 + b"]" * 500,
        b'{"content": "' + b"x" * 9000 + b'"}',
        json.dumps({"content": "def broken(:\n" + "# filler\n" * 20}).encode(),
        json.dumps({"content": "\0" * 80}).encode(),
        good.replace(b"add_0", b"add_9"),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    kept, rejected = collect(config_of(path))
    assert [row["path"] for row in kept] == ["rows.jsonl:1", "rows.jsonl:14"]
    assert rejected == {
        f"rows.jsonl:{number}": reason
        for number, reason in {
            3: "broken_record",
            4: "broken_record",
            5: "broken_record",
            6: "no_content",
            7: "no_content",
            8: "not_utf8",
            9: "not_utf8",
            10: "broken_record",
            11: "too_long",
            12: "not_parseable",
            13: "not_parseable",
        }.items()
    }


def test_only_wanted_licences_are_kept(tmp_path: Path) -> None:
    config = config_of(write(tmp_path, "jsonl"), columns={"licence": "license"})
    kept, rejected = collect(config.model_copy(update={"collect": CollectSettings(licences=("MIT",))}))
    assert {row["licence"] for row in kept} == {"MIT"} and len(kept) == 3
    assert set(rejected.values()) == {"licence"}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("cut.jsonl.gz", gzip.compress(json.dumps(ROWS).encode() * 50)[:400], "cut.jsonl.gz"),
        ("no.jsonl.zst", b"this is not zstandard", "no.jsonl.zst"),
        ("odd.parquet", b"PAR1 and then nothing", "odd.parquet"),
        ("other.jsonl", b'{"text": "x"}\n' * 3, "no column 'content'"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_nothing_stays(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", "jsonl").rename(tmp_path / "in" / "0.jsonl")  # so that some shards are listed before it
    (tmp_path / "in" / name).write_bytes(data)
    config = config_of(tmp_path / "in", include=["*.jsonl", "*.gz", "*.zst", "*.parquet"])
    config = config.model_copy(update={"collect": CollectSettings(files_per_shard=2)})
    with pytest.raises(UserError, match=words) as caught:
        create_or_open_run(tmp_path / "run", config)
    assert caught.value.why and caught.value.fix
    assert not (tmp_path / "run").exists()


def test_a_wrong_column_of_a_parquet_file_or_dataset_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column 'text'") as caught:
        list(list_sources(config_of(write(tmp_path, "parquet"), columns={"content": "text"})))
    assert "content, repo_name" in caught.value.why
    with pytest.raises(UserError, match="no-such"):
        list(list_sources(RunConfig(name="test", sources=(Source(name="hf", dataset="no-such/dataset"),))))


def test_a_string_that_ends_with_its_line_is_said_to_be_cut() -> None:
    assert "Unterminated string" in str(records._from_line(1, b'{"text": "half\n'))
