"""From pairs to samples: questions, answers, verdicts, revisions, training text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config import RunConfig, load_yaml
from codeio_hpc.config.run import Source
from codeio_hpc.launch.worker import settle_account
from codeio_hpc.sandbox import Limits, Pool
from codeio_hpc.stages.answer import Answer
from codeio_hpc.stages.assemble import Assemble, codeio, codeio_plus_plus
from codeio_hpc.stages.base import Context, MapStage
from codeio_hpc.stages.pose import Pose
from codeio_hpc.stages.revise import Revise
from codeio_hpc.stages.verify import Verify
from codeio_hpc.tables.schemas import CONVERSATIONS
from codeio_hpc.teachers.judge import judge
from tests.conftest import ROOT

CODE = """def total(values):
    result = 0
    for value in values:
        if value > 0:
            result += value
    return result


def main_solution(values):
    return total(values)
"""


def pair(number: int, split: str = "train", constant: bool = False) -> dict[str, Any]:
    values = [number, -1, 2 * number]
    return {
        "pair_id": f"p{number}",
        "function_id": "fn1",
        "file_id": "f1",
        "language": "python",
        "source": "s",
        "path": "p.py",
        "licence": "MIT",
        "name": "total",
        "code": CODE,
        "entry_point": "main_solution",
        "io_description": "Input:\n  `values` (list of int): some {with braces}.\nOutput:\n  `return` (int): sum.",
        "question": "What is the sum of the positive numbers in `values`?",
        "kind": "plain",
        "split": split,
        "tags": ["iteration"],
        "input": json.dumps({"values": values}, separators=(",", ":")),
        "output": str(sum(value for value in values if value > 0)),
        "position": number,
        "pairs": 10,
        "tier": "standard",
        "flags": ["constant"] if constant else [],
        "steps": 6,
        "coverage": 1.0,
    }


class House:
    """Runs stages over rows, as the engine does, with its account."""

    def __init__(self, config: RunConfig, folder: Path, stack: ExitStack) -> None:
        self.config, self.folder, self.stack = config, folder, stack
        self.pools: dict[int, Pool] = {}
        self.counts: dict[str, dict[str, int]] = {}

    def pool(self, hash_seed: int) -> Pool:
        if hash_seed not in self.pools:
            self.pools[hash_seed] = self.stack.enter_context(Pool(hash_seed=hash_seed))
        return self.pools[hash_seed]

    def run(self, stage: MapStage, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        context = Context(self.config, stage.name, 0, self.pool, self.folder / stage.name / "journal-00000.jsonl")
        assert stage.output.parent is not None
        result = settle_account(stage.input.id, stage.output.parent, stage.name, rows, stage.run(rows, context))
        self.counts[stage.name] = dict(context.counts)
        return result

    def conversations(self, pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows = pairs
        for stage in (Pose(), Answer(), Verify(), Revise()):
            rows, _ = self.run(stage, rows)
        return rows


def config(**sections: Any) -> RunConfig:
    return RunConfig.model_validate({"name": "t", "sources": [Source(name="s", stdlib=True)], "seed": 3, **sections})


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


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


def test_the_tracer_is_right_when_it_is_not_told_to_err(tmp_path: Path, stack: ExitStack) -> None:
    rows = House(config(), tmp_path, stack).conversations([pair(number) for number in range(5)])
    assert [turn["category"] for row in rows for turn in row["turns"]] == ["correct"] * 10


def test_the_tracers_account_is_true(tmp_path: Path, stack: ExitStack) -> None:
    rows = House(config(), tmp_path, stack).conversations([pair(3)])
    assert rows[0]["turns"][0]["response"].splitlines() == [
        "Start with values = [3,-1,6].",
        "result = 0",
        "for value in values: value = 3",
        "if value > 0: yes",
        "result += value: result = 3",
        "for value in values: value = -1",
        "if value > 0: no",
        "(2 more steps, then value = 6)",
        "result += value: result = 9",
        "for value in values: no more",
        "return result: 9",
        "So the output is 9.",
        '{"output": 9}',
    ]


FACTORIAL = "def fact(n):\n    if n < 2:\n        return 1\n    return n * fact(n - 1)\n\n\n"
FACTORIAL += "def main_solution(n):\n    return fact(n)\n"


def told(tmp_path: Path, stack: ExitStack, code: str, given: dict[str, Any], direction: str) -> list[str]:
    names: dict[str, Any] = {}
    exec(code, names)
    columns = {"code": code, "input": json.dumps(given), "output": json.dumps(names["main_solution"](**given))}
    house = House(config(pose={"directions": [direction]}), tmp_path, stack)
    [row] = house.conversations([{**pair(1), **columns}])
    assert row["turns"][0]["category"] == "correct"
    return list(row["turns"][0]["response"].splitlines())


def test_recursion_and_rounds_of_loops_are_summed_up(tmp_path: Path, stack: ExitStack) -> None:
    account = told(tmp_path / "a", stack, FACTORIAL, {"n": 7}, "output")
    assert "(fact calls itself 4 times more)" in account and account[-2] == "So the output is 5040."
    loop = "def main_solution(n):\n    total = 0\n    for k in range(n):\n        total += k\n    return total\n"
    account = told(tmp_path / "b", stack, loop, {"n": 30}, "output")
    assert "(28 more rounds, then k = 29, total = 435)" in account and len(account) < 12


def test_a_run_that_is_too_long_to_be_told_gets_no_answer(tmp_path: Path, stack: ExitStack) -> None:
    house = House(config(pose={"directions": ["output"]}), tmp_path, stack)
    code = "def main_solution(n):\n    while n > 0:\n        n -= 1\n    return n\n"
    pairs = [{**pair(n), "code": code, "input": f'{{"n":{n}}}', "output": "0"} for n in (9, 5000)]
    answers, rejected = house.run(Answer(), house.run(Pose(), pairs)[0])
    assert len(answers) == 1 and [row["reason"] for row in rejected] == ["too_many_steps"]


def test_exceptions_are_told(tmp_path: Path, stack: ExitStack) -> None:
    code = "def main_solution(s):\n    try:\n        return int(s)\n    except ValueError:\n        return -1\n"
    account = told(tmp_path, stack, code, {"s": "a1"}, "output")
    assert account[1:4] == ["try", "return int(s):", "that raises ValueError: invalid literal for int() w…"]


def test_a_statement_of_several_lines_is_one_step(tmp_path: Path, stack: ExitStack) -> None:
    code = "def main_solution(n):\n    parts = [n,  # first\n             n + 1,\n             str(n)]\n"
    code += "    return '{} {}'.format(parts[0],\n                          parts[1])\n"
    account = told(tmp_path, stack, code, {"n": 4}, "output")
    assert account[1:3] == [
        "parts = [n, n + 1, str(n)]: parts = [4, 5, '4']",
        "return '{} {}'.format(parts[0], parts[1]): '4 5'",
    ]


def test_an_input_is_found_backwards_from_the_output(tmp_path: Path, stack: ExitStack) -> None:
    account = told(tmp_path / "a", stack, FACTORIAL, {"n": 4}, "input")
    assert (
        account[:4]
        == [
            "The output must be 24.",
            "It comes from n * fact(n - 1).",
            "One way there: n < 2 holds at times.",
            'Not {"n":5}: that gives 120.',
        ]
        or account[3] == 'Not {"n":3}: that gives 6.'
    )
    assert account[4] == 'Try {"n":4}.' and account[-2:] == ["That gives 24.", '{"input": {"n":4}}']
    code = "def main_solution(n):\n    while n > 9:\n        n //= 2\n    if n < 2:\n        return 0\n    return n\n"
    account = told(tmp_path / "b", stack, code, {"n": 40}, "input")
    assert account[1:3] == [
        "It comes from n.",
        "One way there: while n > 9 holds at first, and then no more; n < 2 does not hold.",
    ]


def test_errors_are_seeded_really_wrong_and_repaired_by_revision(tmp_path: Path, stack: ExitStack) -> None:
    erring = config(teacher={"kind": "tracer", "error_rate": 0.5})
    pairs = [pair(number) for number in range(1, 40)]
    rows = House(erring, tmp_path / "a", stack).conversations(pairs)
    again = House(erring, tmp_path / "b", stack).conversations(pairs)
    assert rows == again
    first = [row["turns"][0]["category"] for row in rows]
    assert 25 < first.count("wrong") < 53, "half of 78, give or take"
    repaired = [row for row in rows if len(row["turns"]) == 2 and row["turns"][1]["category"] == "correct"]
    assert len(repaired) > first.count("wrong") / 2


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
    assert (found.category, found.feedback) == ("exception", "The input is too large: a container of 20 items.")


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


TURNS = [
    {"response": "R1", "category": "wrong", "feedback": "The output is not 1.", "prediction": "1"},
    {"response": "R2", "category": "correct", "feedback": "That is right.", "prediction": "2"},
]


def test_codeio_is_the_first_response_and_codeio_plus_plus_all_turns() -> None:
    assert codeio(TURNS) == "R1"
    assert codeio_plus_plus(TURNS) == (
        "R1\nLet me check that. The output is not 1.\nSo I have to think again.\nR2\nLet me check that. That is right."
    )
    assert codeio_plus_plus(TURNS[1:]) == "R2\nLet me check that. That is right."


def test_direct_answers_are_the_executed_values(tmp_path: Path, stack: ExitStack) -> None:
    house = House(config(assemble={"instructions": "direct-answers"}), tmp_path, stack)
    samples, _ = house.run(Assemble(), house.conversations([pair(4)]))
    assert [(row["training_stage"], row["format"]) for row in samples] == [
        ("stage1", "codeio++"),
        ("stage2", "direct-answers"),
    ] * 2
    assert samples[1]["messages"][1]["content"] == '{"output": 12}'
    assert samples[3]["messages"][1]["content"] == '{"input": {"values":[4,-1,8]}}'


def test_a_function_that_cannot_be_traced_in_time_is_given_up_after_two_pairs(tmp_path: Path, stack: ExitStack) -> None:
    house = House(config(), tmp_path, stack)
    house.pools[0] = stack.enter_context(Pool(limits=Limits(cpu_seconds=0.2, wall_seconds=0.4)))
    slow = "def main_solution(values):\n    while True:\n        pass\n"
    posed, _ = house.run(Pose(), [{**pair(number), "code": slow, "function_id": "fn2"} for number in range(5)])
    answers, rejected = house.run(Answer(), [*posed, *house.run(Pose(), [pair(9)])[0]])
    assert {row["pair_id"] for row in answers} == {"p9"}
    assert {row["reason"] for row in rejected} == {"not_traceable"} and len(rejected) == 10
    not_run = [row for row in rejected if "not run" in row["detail"]]
    assert len(not_run) == 6, "both directions of the pairs after the second"


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


def conversation(number: int, direction: str, *categories: str, **columns: Any) -> dict[str, Any]:
    turns = [
        {"response": f"R{turn}", "category": category, "feedback": f"F{turn}", "prediction": None}
        for turn, category in enumerate(categories)
    ]
    row: dict[str, Any] = dict.fromkeys(CONVERSATIONS.schema.names, "")
    row |= pair(number) | {"conversation_id": f"c{number}{direction}", "instance_id": f"i{number}{direction}"}
    return row | {"direction": direction, "prompt": "P", "turns": turns, "examples": None, "difficulty": 1.0, **columns}


def assembled(tmp_path: Path, stack: ExitStack, rows: list[dict[str, Any]], **settings: Any) -> tuple[Any, Any]:
    kept, rejected = House(config(assemble=settings), tmp_path, stack).run(Assemble(), rows)
    texts = [[message["content"] for message in row["messages"]] for row in kept]
    return texts, [(row["row_id"], row["reason"]) for row in rejected]


def test_wrong_answers_are_kept_dropped_or_replaced(tmp_path: Path, stack: ExitStack) -> None:
    rows = [conversation(2, "output", "correct"), conversation(3, "output", "wrong", "correct")]
    rows += [conversation(4, "input", "wrong", "wrong")]
    kept, rejected = assembled(tmp_path, stack, rows, format="codeio")
    assert kept == [["P", "R0"]] * 3 and not rejected
    kept, rejected = assembled(tmp_path, stack, rows, format="codeio", wrong="drop")
    assert kept == [["P", "R0"]] and rejected == [("c3output", "wrong"), ("c4input", "wrong")]
    kept, rejected = assembled(tmp_path, stack, rows, wrong="drop")
    assert len(kept) == 2 and rejected == [("c4input", "wrong")]
    kept, _ = assembled(tmp_path, stack, rows, format="codeio", wrong="ground-truth")
    assert [text for _, text in kept] == ["R0", '{"output": 9}', '{"input": {"values":[4,-1,8]}}']


def test_instances_are_left_out_by_source_direction_pair_and_share(tmp_path: Path, stack: ExitStack) -> None:
    rows = [conversation(n, way, "correct") for n in range(10) for way in ("output", "input")]
    kept, rejected = assembled(tmp_path, stack, rows, directions=["input"])
    assert len(kept) == 10 and {reason for _, reason in rejected} == {"direction"}
    kept, rejected = assembled(tmp_path, stack, rows, leave_out=["s"])
    assert not kept and {reason for _, reason in rejected} == {"left_out"}
    for sixths, pairs in ((1, 2), (2, 4), (3, 5), (4, 7), (5, 9), (6, 10)):
        kept, _ = assembled(tmp_path, stack, rows, pairs_fraction=sixths / 6)
        assert len(kept) == 2 * pairs, "of ten pairs the first, rounded up"
        preset = load_yaml(ROOT / f"configs/runs/ablations/pairs-{sixths}-of-6.yaml")["assemble"]
        kept, _ = assembled(tmp_path, stack, [row | {"pairs": 6} for row in rows if row["position"] < 6], **preset)
        assert len(kept) == 2 * sixths, "a sixth as the preset writes it"
    many = [conversation(n, "output", "correct") for n in range(400)]
    many = [row | {"position": 0} for row in many]
    half, rejected = assembled(tmp_path, stack, many, fraction=0.5)
    assert 150 < len(half) < 250 and len(half) + len(rejected) == 400
    assert assembled(tmp_path, stack, many, fraction=0.5) == (half, rejected)


@pytest.mark.parametrize(
    ("settings", "shows", "answers"),
    [
        ({"prompt": "question+code"}, (True, True), (False, True)),
        ({"prompt": "question"}, (True, False), (False, True)),
        ({"prompt": "code"}, (False, True), (False, True)),
        ({"prompt": "question", "response": "code+cot"}, (True, False), (True, True)),
        ({"prompt": "question", "response": "code"}, (True, False), (True, False)),
    ],
)
def test_prompt_and_response_take_the_forms_of_the_papers_third_table(
    settings: dict[str, str], shows: tuple[bool, bool], answers: tuple[bool, bool], tmp_path: Path, stack: ExitStack
) -> None:
    [[prompt, response]], _ = assembled(tmp_path, stack, [conversation(2, "output", "correct")], **settings)
    assert ("sum of the positive" in prompt, "def total" in prompt) == shows
    assert ("def total" in response, "R0" in response) == answers
    assert '"values":[2,-1,4]' in prompt or settings.get("response") == "code"


def test_code_is_never_both_shown_and_asked_for() -> None:
    with pytest.raises(ValueError, match="set prompt: question"):
        config(assemble={"response": "code", "prompt": "code"})
