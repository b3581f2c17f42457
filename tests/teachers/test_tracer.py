"""The tracer: true, short accounts; inputs found backwards; errors on purpose, and no answer where none can be told."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from codeio_hpc.sandbox import Limits, Pool
from codeio_hpc.stages.answer import Answer
from codeio_hpc.stages.pose import Pose
from tests.stages.house import House, config, pair


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
    assert "(28 more rounds, then total = 435)" in account and len(account) < 12


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


def test_values_that_the_next_steps_use_are_told_of_what_is_left_out(tmp_path: Path, stack: ExitStack) -> None:
    code = (
        "def main_solution(xs):\n    low = high = xs[0]\n    total = 0\n    for x in xs:\n        low = min(low, x)\n"
        "        high = max(high, x)\n        total += x\n        last = x\n        seen = last\n"
        "    return total / len(xs) - low + high\n"
    )
    account = told(tmp_path, stack, code, {"xs": [5, 5, 5, 2, 9]}, "output")
    [summary] = [line for line in account if line.startswith("(")][-1:]
    assert all(value in summary for value in ("low = 2", "high = 9", "total = 26")) and "last" not in summary


def test_a_function_that_is_called_item_by_item_is_entered_with_its_argument(tmp_path: Path, stack: ExitStack) -> None:
    code = (
        "def odd(n):\n    return n % 2 == 1\n\n\ndef odds(xs):\n    return filter(odd, xs)\n\n\n"
        "def main_solution(xs):\n    return list(odds(xs))\n"
    )
    assert told(tmp_path, stack, code, {"xs": [3, 4]}, "output")[:-2] == [
        "Start with xs = [3,4].",
        "return filter(odd, xs)",
        "in odd: n = 3",
        "return n % 2 == 1: True",
        "in odd: n = 4",
        "return n % 2 == 1: False",
    ]


def test_values_are_written_as_a_reader_would_write_them(tmp_path: Path, stack: ExitStack) -> None:
    code = (
        "from collections import defaultdict\n\n\ndef main_solution(word):\n    seen = defaultdict(int)\n"
        "    for letter in word:\n        seen[letter] += 1\n    return seen\n"
    )
    account = told(tmp_path / "a", stack, code, {"word": "ab"}, "output")
    assert "seen[letter] += 1: seen = {'a': 1}" in account and "return seen: {'a': 1, 'b': 1}" in account
    code = "import numpy as np\n\n\ndef main_solution(xs):\n    mean = np.mean(xs)\n    return float(mean)\n"
    assert "mean = np.mean(xs): mean = 2.5" in told(tmp_path / "b", stack, code, {"xs": [2, 3]}, "output")


def test_definitions_are_not_told_and_a_condition_is_told_without_what_follows_it(
    tmp_path: Path, stack: ExitStack
) -> None:
    code = (
        "from functools import lru_cache\n\n\ndef main_solution(n):\n    if n < 0: return -1\n    @lru_cache(None)\n"
        "    def inner(k):\n        return k * 2\n    def half(k): return k // 2\n    return(inner(n) + half(n))\n"
    )
    assert told(tmp_path / "a", stack, code, {"n": 4}, "output")[1:-2] == [
        "if n < 0: no",
        "in inner: k = 4",
        "return k * 2: 8",
        "in half: k = 4",
        "return k // 2: 2",
        "return(inner(n) + half(n)): 10",
    ]
    account = told(tmp_path / "b", stack, code, {"n": 4}, "input")
    assert "It comes from (inner(n) + half(n))." in account and "One way there: n < 0 does not hold." in account
