"""From pairs to conversations: questions, answers, verdicts, revisions, induction."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from codeio_hpc.stages.answer import Answer
from codeio_hpc.stages.pose import Pose
from codeio_hpc.teachers.judge import judge
from tests.stages.house import CODE, House, config, pair


def test_a_pair_gives_one_question_in_each_direction(tmp_path: Path, stack: ExitStack) -> None:
    rows, rejected = House(config(), tmp_path, stack).run(Pose(), [pair(1)])
    assert [row["direction"] for row in rows] == ["output", "input"] and not rejected
    assert rows[0]["prompt"].endswith(
        'Given the input: {"values":[1,-1,2]}\nWhat is the output? Think, then answer in the form {"output": …}'
    )
    assert rows[1]["prompt"].endswith('answer in the form {"input": {"values": …}}')
    assert all(CODE.strip() in row["prompt"] and "{with braces}" in row["prompt"] for row in rows)


def test_constant_outputs_are_not_asked_for_an_input(tmp_path: Path, stack: ExitStack) -> None:
    rows, _ = House(config(), tmp_path, stack).run(Pose(), [pair(1, constant=True)])
    assert [row["direction"] for row in rows] == ["output"]
    only_inputs = config(pose={"directions": ["input"]})
    rows, rejected = House(only_inputs, tmp_path, stack).run(Pose(), [pair(1, constant=True)])
    assert not rows and rejected[0]["reason"] == "constant"


@pytest.mark.parametrize(("mode", "has"), [("question", (True, False)), ("code", (False, True))])
def test_the_prompt_mode_decides_what_is_shown(
    mode: str, has: tuple[bool, bool], tmp_path: Path, stack: ExitStack
) -> None:
    rows, _ = House(config(pose={"prompt": mode}), tmp_path, stack).run(Pose(), [pair(1)])
    assert ("sum of the positive" in rows[0]["prompt"], "def total" in rows[0]["prompt"]) == has


def test_held_out_questions_are_never_asked(tmp_path: Path, stack: ExitStack) -> None:
    house = House(config(), tmp_path, stack)
    posed, _ = house.run(Pose(), [pair(1, split="heldout"), pair(2)])
    answers, rejected = house.run(Answer(), posed)
    assert {row["pair_id"] for row in answers} == {"p2"}
    assert {row["reason"] for row in rejected} == {"heldout"} and len(rejected) == 2


def test_feedback_never_tells_the_answer(tmp_path: Path, stack: ExitStack) -> None:
    erring = config(teacher={"kind": "tracer", "error_rate": 1.0}, revise={"turns": 2})
    rows = House(erring, tmp_path, stack).conversations([pair(number * 1111) for number in range(1, 9)])
    wrong = [(row, turn) for row in rows for turn in row["turns"] if turn["category"] != "correct"]
    assert wrong
    for row, turn in wrong:
        if row["direction"] == "output":
            assert row["output"] not in turn["feedback"]
        else:
            assert json.loads(row["input"])["values"] != json.loads(turn["prediction"])["values"]
            assert row["input"] not in turn["feedback"]


def test_an_input_beyond_the_size_rules_is_refused_without_running_it(tmp_path: Path, stack: ExitStack) -> None:
    row = {**pair(1), "instance_id": "i1", "direction": "input"}
    found = judge(row, json.dumps({"input": {"values": [1] * 20}}), House(config(), tmp_path, stack).pool(0), config())
    assert (found.category, found.feedback) == (
        "exception",
        "The input is too large: a container of 20 items, not below 20.",
    )


def test_turns_stop_when_the_answer_is_right_or_the_turns_are_used_up(tmp_path: Path, stack: ExitStack) -> None:
    never_right = config(
        teacher={"kind": "tracer", "error_rate": 1.0}, revise={"turns": 1}, pose={"directions": ["output"]}
    )
    rows = House(never_right, tmp_path / "a", stack).conversations([pair(5)])
    assert [len(row["turns"]) for row in rows] == [2]
    often = config(teacher={"kind": "tracer", "error_rate": 1.0}, revise={"turns": 5}, pose={"directions": ["output"]})
    [row] = House(often, tmp_path / "c", stack).conversations([pair(5)])
    said = [turn["prediction"] for turn in row["turns"]]
    assert len(set(said)) == len(said) and said[-1] == "15", "nobody gives the same wrong answer twice"
    no_revision = config(teacher={"kind": "tracer", "error_rate": 1.0}, revise={"turns": 0})
    rows = House(no_revision, tmp_path / "b", stack).conversations([pair(5)])
    assert {len(row["turns"]) for row in rows} == {1}


def test_recorded_answers_give_the_same_rows_and_missing_ones_are_rejected(tmp_path: Path, stack: ExitStack) -> None:
    erring = {"kind": "tracer", "error_rate": 0.5}
    pairs = [pair(number) for number in range(1, 9)]
    told = House(config(teacher=erring), tmp_path, stack).conversations(pairs)
    replay = House(config(teacher={"kind": "replay", "journal": str(tmp_path)}), tmp_path / "again", stack)
    retold = replay.conversations(pairs)
    assert [row["turns"] for row in retold] == [row["turns"] for row in told]
    posed, _ = replay.run(Pose(), [pair(99)])
    rows, rejected = replay.run(Answer(), posed)
    assert not rows and {row["reason"] for row in rejected} == {"no_recorded_answer"}


INDUCTION = {"directions": ["output", "input", "function"]}


def test_an_induction_question_shows_some_pairs_and_keeps_others_back(tmp_path: Path, stack: ExitStack) -> None:
    rows, rejected = House(config(pose=INDUCTION), tmp_path, stack).run(Pose(), [pair(number) for number in range(5)])
    assert [row["direction"] for row in rows] == ["output", "input", "function"] + ["output", "input"] * 4
    asked = rows[2]
    examples = json.loads(asked["examples"])
    assert [len(examples["shown"]), len(examples["hidden"])] == [3, 2] and not rejected
    assert all(f"{given} -> {output}" in asked["prompt"] for given, output in examples["shown"])
    assert all(given not in asked["prompt"] for given, _ in examples["hidden"])
    assert "def total" not in asked["prompt"] and "main_solution(values)" in asked["prompt"]
    assert {row["examples"] for row in rows if row is not asked} == {None}


def test_pairs_that_only_serve_as_examples_are_rejected_as_such(tmp_path: Path, stack: ExitStack) -> None:
    house = House(config(pose={"directions": ["function"]}), tmp_path, stack)
    rows, rejected = house.run(Pose(), [pair(number) for number in range(4)])
    assert len(rows) == 1 and [row["reason"] for row in rejected] == ["example"] * 3
    rows, rejected = house.run(Pose(), [pair(1), pair(2)])
    assert not rows and len(rejected) == 2


def test_found_functions_are_judged_by_running_them(tmp_path: Path, stack: ExitStack) -> None:
    house = House(config(pose=INDUCTION), tmp_path, stack)
    rows, _ = house.run(Pose(), [pair(number) for number in range(1, 6)])
    asked = rows[2]
    answers = {
        f"So:\n```python\n{CODE}```": ("correct", "That is right."),
        "```python\ndef main_solution(values):\n    return 3\n```": (
            "wrong",
            'For the input {"values":[2,-1,4]} it gives 3.',
        ),
        "```\ndef main_solution(values):\n    return 3 * values[0] if values[0] < 4 else 0\n```": (
            "wrong",
            "For a further input it gives another output.",
        ),
        "```python\ndef main_solution(values):\n    return values[9]\n```": (
            "exception",
            'For the input {"values":[1,-1,2]} it fails: IndexError: list index out of range.',
        ),
        "def main_solution(values): return 1": ("no_answer", "No block of Python code defines main_solution."),
        "```python\ndef other(values):\n    return 3\n```": ("no_answer", None),
    }
    for answer, (category, feedback) in answers.items():
        found = judge(asked, answer, house.pool(0), config())
        assert found.category == category and (feedback is None or found.feedback == feedback)


def test_the_tracer_answers_induction_questions_and_repairs_its_errors(tmp_path: Path, stack: ExitStack) -> None:
    house = House(config(pose={"directions": ["function"]}), tmp_path / "a", stack)
    rows = house.conversations([pair(number) for number in range(1, 6)])
    assert [turn["category"] for turn in rows[0]["turns"]] == ["correct"]
    erring = {"kind": "tracer", "error_rate": 1.0}
    house = House(config(pose={"directions": ["function"]}, teacher=erring), tmp_path / "b", stack)
    rows = house.conversations([pair(number) for number in range(1, 6)])
    assert [turn["category"] for turn in rows[0]["turns"]] == ["wrong", "wrong"]
