"""`codeio show` and `codeio rejected`: any row is followed from its raw file to the samples made of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.launch.plan import places
from codeio_hpc.launch.run import open_run
from codeio_hpc.report.rows import rejected, rejected_text, show, show_text
from codeio_hpc.tables.reasons import MEANING
from codeio_hpc.tables.shards import read_rejected
from tests.conftest import CONFIG, rows_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "small.yaml").write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, "-m", "codeio_hpc", "build", "small.yaml", "launch.workers=0"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "runs" / "small"


def all_rejected(run: Path) -> list[dict[str, Any]]:
    opened = open_run(run)
    return [row for place in places(opened) for n in range(opened.shards) for row in read_rejected(place.folder, n)]


def test_a_sample_is_followed_back_to_its_raw_file(run: Path) -> None:
    sample = rows_of(run, "assemble")[-1]
    shown = show(run, sample["sample_id"])
    tables = [entry["table"] for entry in shown["rows"]]
    assert tables[0] == "sources" and tables[-1] == "samples" and len(set(tables)) == 9
    by_table = {entry["table"]: entry["row"] for entry in shown["rows"]}
    assert by_table["samples"] == sample
    assert by_table["pairs"]["pair_id"] == sample["pair_id"]
    assert by_table["sources"]["path"] == sample["path"]
    assert [entry["table"] for entry in shown["made"]] == ["sequences"]
    text = show_text(shown)
    assert by_table["functions"]["generator"].splitlines()[0] in text and sample["sample_id"] in text


def test_a_function_is_followed_to_all_samples_made_of_it(run: Path) -> None:
    samples = rows_of(run, "assemble")
    function = samples[0]["function_id"]
    shown = show(run, function)
    made = {entry["table"]: entry["count"] for entry in shown["made"]}
    assert made["samples"] == sum(sample["function_id"] == function for sample in samples)
    assert made["pairs"] == sum(pair["function_id"] == function for pair in rows_of(run, "sample"))


def test_a_sequence_names_its_samples_and_goes_no_further(run: Path) -> None:
    sequence = max(rows_of(run, "tokenise"), key=lambda row: len(row["sample_ids"]))
    shown = show(run, sequence["sequence_id"])
    assert [entry["table"] for entry in shown["rows"]] == ["samples"] * len(sequence["sample_ids"]) + ["sequences"]


def test_which_tokens_of_a_sequence_are_trained_is_told_as_spans(run: Path) -> None:
    sequence = max(rows_of(run, "tokenise"), key=lambda row: len(row["sample_ids"]))
    shown = show(run, sequence["sequence_id"])
    assert shown["rows"][-1]["row"]["trained"] == sequence["trained"]
    [(count, length, spans)] = re.findall(r"^  trained: ([\d,]+) of ([\d,]+): (.*)$", show_text(shown, full=True), re.M)
    inside = {index for first, last in re.findall(r"(\d+)-(\d+)", spans) for index in range(int(first), int(last) + 1)}
    assert [index in inside for index in range(len(sequence["trained"]))] == sequence["trained"]
    assert (int(count.replace(",", "")), int(length.replace(",", ""))) == (len(inside), len(sequence["trained"]))
    for mask, text in (
        ([True], "1 of 1: 0-0"),
        ([False, False], "0 of 2"),
        ([True, False, True, True], "3 of 4: 0-0 2-3"),
    ):
        shown["rows"][-1]["row"]["trained"] = mask
        assert f"  trained: {text}\n" in show_text(shown)


def test_every_rejected_row_is_found_and_says_why(run: Path) -> None:
    dropped = all_rejected(run)
    assert {row["parent_id"] is None for row in dropped} == {True, False}
    for row in dropped:
        shown = show(run, row["row_id"])
        assert shown["rejected"] == {key: row[key] for key in ("stage", "reason", "detail")}
        assert shown["rows"][0]["table"] == "sources"
        assert f"rejected by {row['stage']}: {row['reason']}" in show_text(shown)


def test_the_counts_are_those_of_the_tables_and_a_reason_lists_its_rows(run: Path) -> None:
    dropped = all_rejected(run)
    found = rejected(run, None, None, 20)
    assert sum(entry["count"] for entry in found["counts"]) == len(dropped)
    reason = dropped[0]["reason"]
    chosen = rejected(run, reason.partition(":")[0], None, 1000)
    assert [row["row_id"] for row in chosen["rows"]] == [
        row["row_id"] for row in dropped if row["reason"].partition(":")[0] == reason.partition(":")[0]
    ]
    assert len(rejected(run, reason, None, 1)["rows"]) == 1
    assert dropped[0]["row_id"] in rejected_text(chosen)


def test_the_command_line_prints_text_and_json(run: Path) -> None:
    sample = rows_of(run, "assemble")[0]["sample_id"]
    command = [sys.executable, "-m", "codeio_hpc"]
    latest = subprocess.run([*command, "show", sample, "--json"], cwd=run.parents[1], capture_output=True, check=True)
    named = subprocess.run([*command, "show", str(run), sample, "--json"], capture_output=True, check=True)
    assert json.loads(latest.stdout) == json.loads(named.stdout) and json.loads(named.stdout)["id"] == sample
    listed = subprocess.run([*command, "rejected", str(run), "--json"], capture_output=True, check=True)
    assert json.loads(listed.stdout)["counts"]


@pytest.mark.parametrize("row_id", ["nonsense", "", "p" + "0" * 20, "fn" + "0" * 20, "../../etc"])
def test_what_is_no_row_is_refused(run: Path, row_id: str) -> None:
    with pytest.raises(UserError) as caught:
        show(run, row_id)
    assert caught.value.why and caught.value.fix
    with pytest.raises(UserError, match="--why"):
        rejected(run, row_id or "-", None, 5)
    with pytest.raises(UserError, match="stage 'nowhere'"):
        rejected(run, None, "nowhere", 5)


def test_what_became_of_a_row_is_the_first_that_is_told(run: Path) -> None:
    dropped = next(row for row in all_rejected(run) if row["parent_id"] and row["reason"] == "surplus")
    fate, meaning = show_text(show(run, dropped["row_id"])).splitlines()[:2]
    assert fate.startswith(f"{dropped['row_id']} was rejected by sample: surplus") and "(input: {" in fate
    assert meaning.strip() == MEANING["surplus"]
    kept = rows_of(run, "transform")[0]["function_id"]
    assert re.match(rf"{kept}: kept; made of it: \d+ pairs, ", show_text(show(run, kept)))


def test_long_texts_are_cut_unless_all_is_asked_for(run: Path) -> None:
    shown = show(run, rows_of(run, "collect")[0]["file_id"])
    shown["rows"][-1]["row"]["content"] = "x" * 5_000
    assert "(5,000 characters: all of them with --full)" in show_text(shown) and "x" * 5_000 in show_text(shown, True)


def test_a_reason_that_no_row_has_is_told_from_one_that_does_not_exist(run: Path) -> None:
    found = rejected(run, "crashed", None, 5)
    assert (
        found["rows"] == []
        and MEANING["crashed"] in rejected_text(found)
        and "no row of this run" in rejected_text(found)
    )
    with pytest.raises(UserError, match=r"there is no such reason\n.*perhaps crashed"):
        rejected(run, "crashing", None, 5)


def test_a_row_names_what_was_made_of_it_and_dropped(run: Path) -> None:
    dropped = [row for row in all_rejected(run) if row["parent_id"] and row["stage"] == "sample"]
    function = dropped[0]["parent_id"]
    shown = show(run, function)
    assert {one["id"] for one in shown["candidates"]} >= {
        row["row_id"] for row in dropped if row["parent_id"] == function
    }
    assert f"{dropped[0]['row_id']}: sample: {dropped[0]['reason']}" in show_text(shown, full=True)


def test_reasons_are_grouped_up_to_their_colon(run: Path) -> None:
    found = rejected(run, None, None, 0)
    found["counts"] = [
        {"stage": "transform", "reason": f"impure:{name}", "kind": "candidates", "count": 2} for name in ("os", "sys")
    ]
    [_, line, _] = rejected_text(found).splitlines()
    assert line.split() == ["transform", "impure", "4"]


def test_listed_rows_say_what_they_are_of_and_how_to_see_more(run: Path) -> None:
    text = rejected_text(rejected(run, "surplus", None, 1))
    pair = rows_of(run, "sample")[0]
    assert any(row["path"] in text and row["name"] in text for row in rows_of(run, "transform")), pair["path"]
    assert "more with --limit" in text and f"codeio show {run} p" in text


def test_nothing_shown_can_steer_a_terminal(run: Path) -> None:
    shown = show(run, rows_of(run, "transform")[0]["function_id"])
    shown["rows"][0]["row"]["path"] = "a\x1b]0;owned\x07\u202e.py"
    text = show_text(shown)
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b" in text
