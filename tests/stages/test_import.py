"""import: whatever other people's files hold ends in the samples or in rejected, once."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeio_hpc.config import parse
from codeio_hpc.config.run import RunConfig
from codeio_hpc.config.samples import ImportSettings
from codeio_hpc.errors import UserError
from codeio_hpc.launch.run import create_or_open_run
from codeio_hpc.stages import import_, records
from codeio_hpc.stages.base import Rejection
from codeio_hpc.stages.import_ import Import
from codeio_hpc.stages.sample_origin import list_samples
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import SOURCES
from codeio_hpc.tables.shards import to_arrow
from tests.stages.drive import context_for, run_gather


def chat(number: int, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"What is {number}?"}, {"role": "assistant", "content": f"It is {number}."}]
    return {"messages": messages, **more}


def config_of(*samples: dict[str, Any], seed: int = 0, **imports: Any) -> RunConfig:
    named = [{"name": f"s{number}", **source} for number, source in enumerate(samples)]
    return parse(RunConfig, {"name": "t", "samples": named, "seed": seed, "imports": imports}, "t.yaml")


def taken(config: RunConfig) -> tuple[list[Row], dict[str, str]]:
    """The samples, and the reasons of what was dropped, by path."""
    rows = list(list_samples(config))
    to_arrow(SOURCES, rows)
    kept, rejected = run_gather(Import(), rows, context_for(Import(), config))  # type: ignore[arg-type]
    paths = {row["source_id"]: row["path"] for row in rows}
    return kept, {paths[item.row_id]: item.reason for item in rejected}


def write(path: Path, rows: list[Any]) -> Path:
    """A file of the kind that its name says."""
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text))
    elif path.name.endswith(".zst"):
        path.write_bytes(pa.compress(text, codec="zstd", asbytes=True))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_bytes(text)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "json", "parquet"])
def test_each_kind_of_file_gives_the_same_samples(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"rows.{kind}", [chat(number, score=number, topic="x" * 400) for number in range(4)])
    kept, rejected = taken(config_of({"path": str(path), "licence": "MIT"}))
    assert rejected == {} and [row["messages"] for row in kept] == [chat(number)["messages"] for number in range(4)]
    assert [row["path"] for row in kept] == [f"rows.{kind}:{number}" for number in range(1, 5)]
    first = kept[0]
    told = ("training_stage", "format", "licence", "turns", "repeats", "language", "direction", "function_id")
    assert [first[name] for name in told] == ["stage2", "chat", "MIT", 1, 1, "text", None, None]
    [source] = [row for row in list_samples(config_of({"path": str(path)})) if row["path"] == f"rows.{kind}:3"]
    assert json.loads(source["provenance"]) == {"score": 2}


def test_lines_of_json_in_a_json_file_are_read_as_lines(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [chat(1), chat(2)]).rename(tmp_path / "rows.json")
    assert len(taken(config_of({"path": str(tmp_path / "rows.json")}))[0]) == 2


def test_documents_are_whole_files_and_records_of_text(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_bytes(b"\xef\xbb\xbfdef f():\r\n\treturn 1\r\n")
    (tmp_path / "notes.md").write_text("notes")
    write(tmp_path / "rows.jsonl", [{"text": "A text."}])
    everything = {"path": f"{tmp_path}/*", "format": "text", "training_stage": "stage1"}
    kept, rejected = taken(config_of(everything))
    assert rejected == {}
    assert {row["path"]: row["messages"][0]["content"] for row in kept} == {
        "code.py": "def f():\n\treturn 1\n",
        "notes.md": "notes",
        "rows.jsonl:1": "A text.",
    }
    assert {(row["format"], row["training_stage"], len(row["messages"])) for row in kept} == {("text", "stage1", 1)}
    with pytest.raises(UserError, match=r"notes\.md is no file of records"):
        taken(config_of({"path": f"{tmp_path}/*.md"}))
    assert [row["path"] for row in taken(config_of({"path": f"{tmp_path}/*.py"}))[0]] == ["code.py"]


def test_a_folder_means_its_files_of_records_and_a_pattern_those_that_fit(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write(tmp_path / "a.jsonl", [chat(1)])
    write(tmp_path / "deep" / "er" / "b.parquet", [chat(2)])
    (tmp_path / "README.md").write_text("no record")

    def paths(pattern: str) -> list[str]:
        return [row["path"] for row in taken(config_of({"path": pattern}))[0]]

    assert paths(str(tmp_path)) == ["a.jsonl:1", "deep/er/b.parquet:1"]
    assert paths(f"{tmp_path}/**/*.parquet") == ["deep/er/b.parquet:1"]
    assert paths(f"{tmp_path}/d*p/er/[ab].*") == ["er/b.parquet:1"] or paths(f"{tmp_path}/d*p/er/[ab].*")
    (tmp_path / "odd[1].jsonl").write_text(json.dumps(chat(3)))
    assert paths(f"{tmp_path}/odd[1].jsonl") == ["odd[1].jsonl:1"]


def test_a_hugging_face_dataset_is_a_source(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_list([chat(1), chat(2)]).save_to_disk(tmp_path / "saved")
    kept, _ = taken(config_of({"dataset": str(tmp_path / "saved")}))
    assert [row["path"] for row in kept] == ["train:1", "train:2"]


def test_what_the_format_was_taken_for_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"instruction": "x", "output": "y"}])
    said: list[str] = []
    list(list_samples(config_of({"path": str(tmp_path / "a.jsonl")}), said.append))
    assert said == ["samples 's0': format prompt (prompt in 'instruction', response in 'output')"]


def test_every_broken_record_is_rejected_with_file_line_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 4096)
    good = json.dumps(chat(1)).encode()
    lines = {
        good: None,
        b"": None,
        b'{"messages": [{"role": "us': "broken_record",
        b"[1]": "broken_record",
        b'{"text": "no messages"}': "no_content",
        b'{"messages": "Hi"}': "no_content",
        good.replace(b"What", b"\xff\xfe"): "not_utf8",
        good.replace(b"What", b"\\ud800"): "not_utf8",
        good.replace(b"What", b"x" * 9000): "too_long",
        good.replace(b"What", b"\\u0000"): "not_text",
        good.replace(b"assistant", b"tool"): "bad_roles",
        good.replace(b"assistant", b"user"): "no_assistant",
        b"[" * 3000: "broken_record",
        json.dumps({"messages": []}).encode(): "empty",
        good.replace(b"It is 1.", b"It is 1. "): "duplicate",
        good.replace(b"1", b"2"): None,
    }
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    kept, rejected = taken(config_of({"path": str(path)}))
    assert [row["path"] for row in kept] == ["rows.jsonl:1", "rows.jsonl:16"]
    assert rejected == {f"rows.jsonl:{number}": reason for number, reason in enumerate(lines.values(), 1) if reason}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("cut.jsonl.gz", gzip.compress(json.dumps(chat(1)).encode() * 50, mtime=0)[:60], "cut.jsonl.gz"),
        ("no.jsonl.zst", b"this is not zstandard", "no.jsonl.zst"),
        ("odd.parquet", b"PAR1 and then nothing", "odd.parquet"),
        ("cut.json", b'[{"messages": []}', "cut.json"),
        ("other.jsonl", b'{"foo": 1}\n' * 3, "no column 'messages'"),
        ("empty.jsonl", b"\n", None),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_nothing_stays(
    tmp_path: Path, name: str, data: bytes, words: str | None
) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "0.jsonl", [chat(number) for number in range(9)])
    (tmp_path / "in" / name).write_bytes(data)
    config = config_of({"path": str(tmp_path / "in")}, samples_per_shard=2)
    if words is None:
        assert create_or_open_run(tmp_path / "run", config).shards == 5
        return
    with pytest.raises(UserError, match=words) as caught:
        create_or_open_run(tmp_path / "run", config)
    assert caught.value.why and caught.value.fix and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"path": "nowhere.jsonl"}, "does not exist"),
        ({"path": "nowhere/*.jsonl"}, "does not exist"),
        ({"dataset": "no-such/dataset"}, "no-such"),
        ({"run": "nowhere"}, "no run folder"),
    ],
)
def test_impossible_sources_are_user_errors(tmp_path: Path, source: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        taken(config_of(source))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds none"):
        taken(config_of({"path": str(tmp_path / "empty")}))


def test_documents_that_cannot_be_trained_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_, "MAX_LINE_BYTES", 100)
    files = {"latin.txt": b"caf\xe9", "null.txt": b"a\0b", "empty.txt": b" \n", "long.txt": "ü".encode() * 60}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    _, rejected = taken(config_of({"path": f"{tmp_path}/*.txt"}))
    assert rejected == {"latin.txt": "not_utf8", "null.txt": "not_text", "empty.txt": "empty", "long.txt": "too_long"}


@pytest.mark.parametrize("change", ["edit", "delete"])
def test_a_document_that_changes_between_the_readings_is_rejected(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    config, stage = config_of({"path": f"{tmp_path}/*.txt"}), Import()
    rows, context = list(list_samples(config)), context_for(stage, config)  # type: ignore[arg-type]
    sketch = stage.sketch(rows, context)
    if change == "edit":
        path.write_text("two")
    else:
        path.unlink()
    made = list(stage.apply(rows, sketch, stage.decide(iter([sketch]), context), context))
    assert [item.reason for item in made if isinstance(item, Rejection)] == ["changed"]


def test_only_wanted_licences_are_kept_and_a_column_decides(tmp_path: Path) -> None:
    licences = ["MIT", "GPL-3.0", None, 3]
    path = write(tmp_path / "a.jsonl", [chat(number, lic=name) for number, name in enumerate(licences)])
    source = {"path": str(path), "columns": {"licence": "lic"}, "licence": "CC0-1.0"}
    kept, rejected = taken(config_of(source, licences=["MIT", "CC0-1.0"]))
    assert [row["licence"] for row in kept] == ["MIT", "CC0-1.0", "CC0-1.0"]
    assert rejected == {"a.jsonl:2": "licence"}


def test_the_first_of_equal_texts_wins_over_shards_and_sources_in_one_training_stage(tmp_path: Path) -> None:
    first = write(tmp_path / "z.jsonl", [chat(1), chat(2)])
    rest = write(tmp_path / "a.json", [{"prompt": "What is 2? ", "response": "It is 2."}, *({"prompt": "p"},)])
    again = {"path": str(first), "training_stage": "stage1"}
    config = config_of({"path": str(first)}, {"path": str(rest), "format": "prompt"}, again)
    rows, stage = list(list_samples(config)), Import()
    context = context_for(stage, config)  # type: ignore[arg-type]
    sketches = [json.loads(json.dumps(stage.sketch([row], context))) for row in rows]
    decision = json.loads(json.dumps(stage.decide(iter(sketches), context)))
    made = [
        one for row, sketch in zip(rows, sketches, strict=True) for one in stage.apply([row], sketch, decision, context)
    ]
    outcome = [one.reason if isinstance(one, Rejection) else one["training_stage"] for one in made]
    assert outcome == ["stage2", "stage2", "duplicate", "no_content", "stage1", "stage1"]
    assert isinstance(made[2], Rejection) and made[2].detail == f"the same content as {rows[1]['source_id']}"
    ids = [one["sample_id"] for one in made if not isinstance(one, Rejection)]
    assert len(set(ids)) == 4, "a sample that is trained in two stages has two ids"


def test_almost_equal_texts_are_found_where_that_is_asked_for(tmp_path: Path) -> None:
    words = " ".join(f"word{number}" for number in range(200))
    rows = [{"text": f"{words} one"}, {"text": f"{words} two"}, {"text": "quite another text, in other words"}]
    path = write(tmp_path / "a.jsonl", rows)
    assert taken(config_of({"path": str(path)}))[1] == {}
    near = {"near_duplicates": 0.85}
    assert taken(config_of({"path": str(path)}, **near))[1] == {"a.jsonl:2": "near_duplicate"}
    both = taken(config_of({"path": str(path)}, {"path": str(path), "training_stage": "stage1"}, **near))
    assert len(both[0]) == 4, "what is trained in another stage is no duplicate"


def test_a_weight_is_how_often_samples_are_trained_and_the_same_ones_at_every_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [chat(number) for number in range(400)])

    def repeats(weight: float, seed: int = 0) -> dict[str, int]:
        kept, rejected = taken(config_of({"path": str(path), "weight": weight}, seed=seed))
        assert set(rejected.values()) <= {"weight"} and len(kept) + len(rejected) == 400
        return {row["sample_id"]: row["repeats"] for row in kept}

    tenth, half, more = repeats(0.1), repeats(0.5), repeats(2.3)
    assert set(repeats(1).values()) == {1} and set(repeats(2).values()) == {2}
    assert 20 <= len(tenth) <= 60 and 160 <= len(half) <= 240 and tenth.keys() <= half.keys()
    assert len(more) == 400 and Counter(more.values()).keys() == {2, 3}
    assert 870 <= sum(more.values()) <= 970
    assert repeats(0.5) == half != repeats(0.5, seed=1)


def test_a_source_cannot_say_two_things_at_once(tmp_path: Path) -> None:
    for wrong in (
        {"path": "a", "run": "b"},
        {},
        {"path": "a", "only": "stage1"},
        {"run": "a", "format": "chat"},
        {"path": "a", "format": "chat", "columns": {"text": "x"}},
        {"path": "a", "weight": 0},
    ):
        with pytest.raises(UserError):
            config_of(wrong)
    both = {"name": "t", "samples": [{"name": "a", "path": "a"}], "sources": [{"name": "b", "path": "b"}]}
    with pytest.raises(UserError, match="not both"):
        parse(RunConfig, both, "t.yaml")
    with pytest.raises(UserError, match="nothing to build from"):
        parse(RunConfig, {"name": "t"}, "t.yaml")
    assert ImportSettings().samples_per_shard >= 1_000
