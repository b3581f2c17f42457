"""Held-out I/O prediction: who is asked what, what counts as right, and what the numbers mean."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config.run import RunConfig, Source
from codeio_hpc.evaluate.io_prediction import Majority, choose, score, summarise
from codeio_hpc.evaluate.statistics import mcnemar, wilson_interval
from codeio_hpc.sandbox import Limits, Pool

SQUARE = "def main_solution(n):\n    return n * n\n"

CONFIG = RunConfig(name="t", sources=(Source(name="s", path="."),))


def row(number: int, direction: str, split: str = "heldout", function: str = "f", **values: str) -> dict[str, Any]:
    return {
        "instance_id": f"i{number}", "function_id": function, "direction": direction, "split": split, "code": SQUARE,
        "kind": "plain", "entry_point": "main_solution", "input": '{"n":3}', "output": "9", "prompt": "?",
        "tier": "standard", "difficulty": float(number), "tags": ["arithmetic"], **values,
    }  # fmt: skip


def test_only_held_out_questions_are_asked_and_functions_take_turns() -> None:
    rows = [row(n, "output", function="many") for n in range(10)]
    rows += [row(20, "output", function="few"), row(30, "output", split="train", function="known")]
    chosen = choose(rows, 4, seed=1)
    assert {one["function_id"] for one in chosen[:2]} == {"many", "few"}
    assert len(chosen) == 4 and all(one["split"] == "heldout" for one in chosen)
    assert chosen == choose(rows[::-1], 4, seed=1)
    assert chosen != choose(rows, 4, seed=2)


def test_majority_is_the_most_frequent_training_answer_and_knows_nothing_of_held_out_ones() -> None:
    rows = [row(n, "output", "train", output="true") for n in range(3)] + [row(9, "output", "train", output="1")]
    rows += [row(10 + n, "output", output="7") for n in range(9)]
    rows += [row(30, "input", "train", input='{"n":5}'), row(31, "input", "train", input='{"text":"a"}')]
    majority = Majority(rows)
    assert majority.answer(row(40, "output")) == '{"output": true}'
    assert majority.answer(row(41, "input")) == '{"input": {"n":5}}'


def test_an_input_is_right_when_the_function_gives_the_wanted_output_for_it() -> None:
    rows = [row(1, "input"), row(2, "input"), row(3, "output"), row(4, "output"), row(5, "output"), row(6, "input")]
    answers = [
        '{"input": {"n": -3}}', '{"input": {"n": 4}}', 'So: {"output": 9}', '{"output": 8}', "no", '{"input": {"m": 3}}'
    ]  # fmt: skip
    with Pool(limits=Limits(cpu_seconds=5), minimum="landlock+seccomp") as pool:
        scored = score(rows, [(answer, True) for answer in answers], pool, CONFIG)
    assert [one.correct for one in scored] == [True, False, True, False, False, False]
    summary = summarise(scored)
    assert (summary["correct"], summary["items"]) == (2, 6)
    assert summary["by_direction"]["output"]["exact_match"] == pytest.approx(1 / 3)
    thirds = {name: (part["correct"], part["items"]) for name, part in summary["by_difficulty"].items()}
    assert thirds == {"easiest": (1, 2), "middle": (1, 2), "hardest": (0, 2)}
    assert summary["by_tag"]["arithmetic"]["items"] == 6
    assert summary["low"] < 1 / 3 < summary["high"]


def test_intervals_and_p_values_are_those_of_the_books() -> None:
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-4)
    assert wilson_interval(50, 100) == pytest.approx((0.40383, 0.59617), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert mcnemar(0, 10) == pytest.approx(2 / 1024)
    assert mcnemar(6, 16) == pytest.approx(0.0524783, abs=1e-6)
    assert mcnemar(5, 5) == mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5_000) == 0.0


def test_evaluate_measures_the_models_of_a_run_beside_the_majority_answer(small_config: Path, tmp_path: Path) -> None:
    from codeio_hpc.train.models import ensure_untrained
    from codeio_hpc.train.plan import make_plan

    run = tmp_path / "run"
    codeio = [sys.executable, "-m", "codeio_hpc"]
    settings = ["split.heldout_fraction=0.4", "evaluate.max_new_tokens=8", "evaluate.max_instances=40"]
    subprocess.run([*codeio, "build", str(small_config), *settings, "--run", str(run)], check=True, capture_output=True)
    without = subprocess.run([*codeio, "evaluate", str(run)], capture_output=True, text=True)
    assert without.returncode == 2 and "codeio train" in without.stderr
    ensure_untrained(make_plan(run, "stage1"))
    result = subprocess.run([*codeio, "evaluate", str(run), "--json"], capture_output=True, text=True, check=True)
    summary = json.loads(result.stdout)
    assert summary == json.loads((run / "evaluation" / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["models"]) == {"majority", "untrained"}
    assert summary["models"]["untrained"]["exact_match"] == 0.0
    assert summary["items"] == 40
    again = subprocess.run([*codeio, "evaluate", str(run)], capture_output=True, text=True, check=True)
    assert "nothing has changed" in again.stdout or "already" in again.stdout, again.stdout
