"""The copy of a function that counts does what the function does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codeio_hpc.stages.branches import MEASURED, Reading, measured


def run(code: str, entry_point: str = "main_solution", **given: Any) -> Reading:
    made = measured(code, entry_point, most_steps=1_000)
    assert made is not None
    names: dict[str, Any] = {}
    exec(compile(made.code, "<measured>", "exec", dont_inherit=True), names)
    return Reading.of(names[MEASURED](**given))


CASES: dict[str, tuple[str, dict[str, Any], Any, set[int], int]] = {
    "if": ("def main_solution(n):\n    if n > 3:\n        return 'é'\n    return 'b'\n", {"n": 4}, "é", {1}, 1),
    "else": ("def main_solution(n):\n    if n > 3: return 'a'\n    return 'b'\n", {"n": 2}, "b", {0}, 1),
    "conditional expression after é": (
        "def main_solution(n):\n    return 'é' + ('a' if n else 'ü' if n is None else 'c')\n",
        {"n": 0},
        "éc",
        {0, 2},
        2,
    ),
    "loop": (
        "def main_solution(xs):\n    return [x for x in xs if x % 2 if x > 1]\n",
        {"xs": [1, 2, 3]},
        [3],
        {1, 2, 3, 4, 5},
        3 + 3 + 2,
    ),
    "empty loop": (
        "def main_solution(xs):\n    for x in xs:\n        pass\n    else:\n        return 'none'\n",
        {"xs": []},
        "none",
        {0},
        0,
    ),
    "nested": (
        "def main_solution(n):\n    while (n if n > 1 else 0):\n        n -= 1\n    return n\n",
        {"n": 2},
        1,
        {0, 1, 2, 3},
        4,
    ),
    "walrus": ("def main_solution(n):\n    if m := n - 1:\n        return m\n    return n\n", {"n": 3}, 2, {1}, 1),
    "generator": (
        "def main_solution(n):\n    return any(k * k == n for k in range(n) if k)\n",
        {"n": 4},
        True,
        {1, 2, 3},
        3 + 3,
    ),
    "lines": (
        "from __future__ import annotations\nimport math\n\n\ndef main_solution(n):\n"
        "    if (n > 1 and\n            n < 9):\n"
        "        return f'{n if n else 0}'\n    return math.inf\n",
        {"n": 3},
        "3",
        {1},
        1,
    ),
    "starred": (
        "def main_solution(n):\n    t = 0\n    for x in n, *[1, 2]:\n        t += x\n    return t\n",
        {"n": 3},
        6,
        {1},
        3,
    ),
    "match": (
        "def main_solution(n):\n    match n:\n        case [a, b] if a > b:\n            return a\n    return 0\n",
        {"n": [2, 1]},
        2,
        {1},
        1,
    ),
    "while true": (
        "def main_solution(n):\n    while True:\n        n += 1\n        if n > 5:\n            return n\n",
        {"n": 3},
        6,
        {0, 1},
        3 + 3,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_output_outcomes_and_steps(name: str) -> None:
    code, given, output, outcomes, steps = CASES[name]
    reading = run(code, **given)
    assert (reading.output, set(reading.branches), reading.steps) == (output, outcomes, steps)


def test_code_outside_functions_and_earlier_calls_do_not_count() -> None:
    code = "def half(n):\n    if n % 2:\n        return n\n    return n // 2\n\n\nM = [half(k) for k in (1, 2)]\n\n\n"
    code += "def main_solution(n):\n    return half(n)\n"
    assert measured(code, "main_solution", 99).branches == 1  # type: ignore[union-attr]
    assert run(code, n=3).branches == {1} and run(code, n=3).steps == 1


def test_code_that_cannot_be_copied_is_left_alone() -> None:
    assert measured("def main_solution(codeio_taken):\n    return 1\n", "main_solution", 99) is None
    assert measured("def main_solution(:\n", "main_solution", 99) is None


@pytest.mark.parametrize("value", [None, 7, [], {"output": 1}, {"output": 1, "branches": ["x"], "steps": 1}])
def test_what_untrusted_code_forges_is_no_reading(value: Any) -> None:
    assert Reading.of(value) == Reading(None, frozenset(), 0)
    assert json.dumps(Reading.of(value).output) == "null"


ENDLESS = {
    "a loop": "def main_solution(n):\n    while True:\n        n += 1\n",
    "a loop over a generator": "def main_solution(n):\n    return sum(1 for _ in iter(int, 1))\n",
    "what catches everything": (
        "def main_solution(n):\n    try:\n        while n < 10**9:\n            n += 1\n"
        "    except BaseException:\n        return 'caught'\n"
    ),
    "what raises something else": (
        "def main_solution(n):\n    try:\n        while n < 10**9:\n            n += 1\n"
        "    finally:\n        raise ValueError\n"
    ),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_code_is_given_up_by_what_it_does_whatever_it_catches(what: str) -> None:
    made = measured(ENDLESS[what], "main_solution", most_steps=1_000)
    assert made is not None and made.is_given_up(run(ENDLESS[what], n=0))


def test_steps_are_bounded_in_the_call_alone() -> None:
    code = "TABLE = [n * n for n in range(5_000) if n % 2]\ndef f():\n    return [n for n in range(5_000) if n]\nf()\n"
    reading = run(code + "def main_solution(n):\n    return TABLE[n] if n else 0\n", n=1)
    assert (reading.output, reading.steps) == (9, 1)
