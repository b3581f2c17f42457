"""decontaminate: planted overlaps are found at their exact rate, and nothing else is."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config.run import Benchmark, RunConfig
from codeio_hpc.errors import UserError
from codeio_hpc.stages.benchmarks import gram_hashes, read_items, words
from codeio_hpc.stages.decontaminate import Decontaminate
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import CONVERSATIONS
from tests.stages.drive import context_for

VOCABULARY = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "st", "ck", "ll")]


def text(seed: str, count: int) -> str:
    chance = random.Random(seed)
    return " ".join(chance.choice(VOCABULARY) for _ in range(count))


def conversation(number: int, prompt: str, *responses: str) -> Row:
    turns = [{"response": one, "category": "wrong", "feedback": "", "prediction": None} for one in responses]
    row: dict[str, Any] = dict.fromkeys(CONVERSATIONS.schema.names, "")
    return row | {"conversation_id": f"c{number}", "prompt": prompt, "turns": turns, "flags": ["trivial"]}


def config(folder: Path, benchmarks: dict[str, list[Any]], **settings: Any) -> RunConfig:
    entries = []
    for name, items in benchmarks.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        entries.append({"name": name, "path": str(path)})
    return RunConfig.model_validate(
        {
            "name": "t",
            "sources": [{"name": "s", "path": "."}],
            "decontaminate": {"benchmarks": entries, **settings},
        }
    )


def check(rows: list[list[Row]], run: RunConfig) -> tuple[dict[str, Any], list[Any]]:
    """Decision by benchmark, and what apply makes of every row."""
    stage = Decontaminate()
    context = context_for(stage, run)
    sketches = [json.loads(json.dumps(stage.sketch(shard, context))) for shard in rows]
    decision = stage.decide(iter(sketches), context)
    made = [
        one
        for shard, sketch in zip(rows, sketches, strict=True)
        for one in stage.apply(shard, sketch, decision, context)
    ]
    return {entry["name"]: entry for entry in decision}, made


def test_a_planted_overlap_is_found_at_its_exact_rate_and_nothing_else(tmp_path: Path) -> None:
    items = [
        {"task": text(f"item {number}", 60), "answer": 5, "options": [text(f"o{number}", 3)]} for number in range(200)
    ]
    other = [text(f"other {number}", 40) for number in range(50)] + ["too short"]
    rows = [conversation(number, text(f"row {number}", 50), text(f"response {number}", 30)) for number in range(300)]
    for number in range(43):  # 43 of 200 items are 21.5 %
        stolen = items[number]["task"].split(" ")[20 : 20 + 13]
        rows[3 * number]["turns"][0]["response"] += " " + " ".join(stolen)
    for number in range(100, 140):  # a word fewer is none
        rows[number * 2]["prompt"] += " " + " ".join(items[number]["task"].split(" ")[20 : 20 + 12])
    decision, made = check([rows[:130], rows[130:]], config(tmp_path, {"items": items, "other": other}))
    assert decision["items"]["found"] == list(range(43)) and decision["items"]["rate"] == 0.215
    assert (decision["other"]["rate"], decision["other"]["items"], decision["other"]["short"]) == (0, 51, 1)
    flagged = [row["conversation_id"] for row in made if "contaminated" in row["flags"]]
    assert flagged == [f"c{3 * number}" for number in range(43)]


def test_with_remove_the_rows_are_rejected_with_the_benchmarks_name(tmp_path: Path) -> None:
    shared = text("shared", 20)
    rows = [conversation(1, shared), conversation(2, text("own", 30))]
    _, made = check([rows], config(tmp_path, {"a": [shared], "b": [shared.upper() + "!"]}, remove=True))
    assert (made[0].row_id, made[0].reason, made[0].detail) == ("c1", "contaminated", "shares words with a, b")
    assert made[1]["flags"] == ["trivial"]


SAME = [
    ("One, two; three!", "one two three"),
    ("x1 = y2 + 33", "x y"),
    ("don't", "don t"),
    ("a\n\tb  c", "a b c"),
    ("für ÉTÉ", "für été"),
    ("snake_case_name", "snake case name"),
    ("求和 x の", "求 和 x の"),
    ("12 345 ... !!", ""),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_punctuation_digits_and_white_space_do_not_count(one: str, other: str) -> None:
    assert words(one) == other.split()


def test_runs_have_hashes_of_their_own_whatever_the_order_of_words() -> None:
    assert len(gram_hashes("a b c", 13)) == 0
    assert len(gram_hashes(" ".join("abcdefghijklm"), 13)) == 1
    assert gram_hashes("a b c d", 2).tolist()[1:] == gram_hashes("b c d", 2).tolist()
    assert gram_hashes("a b", 2)[0] != gram_hashes("b a", 2)[0]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "json", "csv", "parquet"])
def test_benchmarks_are_read_from_any_usual_file(tmp_path: Path, suffix: str) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [{"question": "Who?", "choices": ["A b", "c"]}, {"question": "Wo?", "choices": ["d"]}]
    path = tmp_path / f"b.{suffix}"
    lines = "".join(json.dumps(record) + "\n" for record in records)
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif suffix == "csv":
        path.write_text('question,choices\nWho?,"A b\nc"\nWo?,d\n', encoding="utf-8")
    else:
        data = json.dumps(records) if suffix == "json" else lines
        path.write_bytes(gzip.compress(data.encode()) if suffix.endswith("gz") else data.encode())
    assert list(read_items(Benchmark(name="b", path=str(path)))) == ["Who?\nA b\nc", "Wo?\nd"]
    assert list(read_items(Benchmark(name="b", path=str(path), columns=("question",)))) == ["Who?", "Wo?"]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (None, None, "No such file"),
        ("{", None, "Expecting"),
        ('{"a": 1}\n', None, "no item has any text"),
        ('{"a": "b"}\n', ("question",), "no column 'question'"),
        ("\xff", None, "codec"),
    ],
)
def test_an_unusable_benchmark_is_told_before_anything_is_built(
    tmp_path: Path, content: str | None, columns: tuple[str, ...] | None, message: str
) -> None:
    path = tmp_path / "b.jsonl"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        list(read_items(Benchmark(name="b", path=str(path), columns=columns)))


@pytest.mark.long
def test_no_false_alarm_among_a_hundred_thousand_unrelated_rows(tmp_path: Path) -> None:
    items = [{"task": text(f"item {number}", 120)} for number in range(2_000)]
    rows = [conversation(number, text(f"row {number}", 80), text(f"r {number}", 40)) for number in range(100_000)]
    decision, made = check([rows], config(tmp_path, {"items": items}))
    assert decision["items"]["found"] == [] and all(row["flags"] == ["trivial"] for row in made)
