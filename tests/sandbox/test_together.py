"""Inputs that share a process: cheaper, with the same results, and none where the process does not end well."""

from __future__ import annotations

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox import FunctionRequest, Generator, Limits, Pool
from tests.sandbox.asking import execute

ENDINGS = """\
import os, sys
seen = []

def main_solution(x):
    seen.append(x)
    if x == 1:
        raise ValueError(seen)
    if x == 2:
        sys.exit(0)
    if x == 3:
        return {1}
    if x == 4:
        return "x" * 2_000_000
    if x == 10:
        os._exit(0)
    if x == 11:
        os.abort()
    while x == 12:
        pass
    return seen
"""


@pytest.mark.parametrize("inputs", [(0, 1, 2, 3, 4, 5), (0, 10, 5), (0, 11, 5), (0, 12, 5)])
def test_inputs_that_run_together_end_as_they_do_alone(pool: Pool, inputs: tuple[int, ...]) -> None:
    limits = Limits(cpu_seconds=0.5)
    together, alone = (execute(pool, ENDINGS, *inputs, together=way, limits=limits) for way in (True, False))
    told = [[(one.verdict, one.input, one.output, one.error) for one in way] for way in (together, alone)]
    assert told[0] == told[1] and len(told[0]) == len(inputs)
    assert alone[-1].output == [5], "each input has a module of its own"


def test_expected_outputs_are_compared_after_a_shared_process_too(pool: Pool) -> None:
    results = execute(pool, "def main_solution(x): return x + 1", 1, 2, together=True, expected=[2, 2])
    assert [one.correct for one in results] == [True, False]


def test_what_a_shared_process_sends_is_taken_only_if_it_speaks_of_every_input(pool: Pool) -> None:
    forged = '{"status": "ok", "results": [{"status": "ok", "output": 7, "cpu_seconds": 0.0}]}'
    code = f"import os\ndef main_solution(x):\n    if x == 1:\n        os.write(3, b'{forged}')\n"
    code += "        os._exit(0)\n    return x\n"
    assert [one.verdict for one in execute(pool, code, 1, 2, together=True)] == ["no_result", "ok"]


def test_a_shared_process_is_cheaper_than_one_for_each_input(pool: Pool) -> None:
    code = "def main_solution(x): return x"
    execute(pool, code)
    before = {kind: jail.runs for kind, jail in pool.jails.running.items()}
    assert [one.output for one in execute(pool, code, *range(20), together=True)] == list(range(20))
    assert sum(jail.runs - before[kind] for kind, jail in pool.jails.running.items()) == 1


@pytest.mark.parametrize("together", [True, False])
def test_what_a_generator_draws_is_executed_either_way(pool: Pool, together: bool) -> None:
    generator = Generator(
        "n = 0\ndef input_generator():\n    global n\n    n += 1\n    return {'x': n // 2}\n", count=3
    )
    code = "def main_solution(x):\n    return 10 // x\n"
    result = pool.run(FunctionRequest("f", code, generator=generator, together=together))
    assert [(one.input, one.verdict, one.output) for one in result.results] == [
        ({"x": 0}, "exception", None),
        ({"x": 1}, "ok", 10),
        ({"x": 2}, "ok", 5),
    ]
    assert result.shared == together and result.generation is not None
    assert (result.generation.verdict, result.generation.attempts) == ("ok", 4)


def test_a_broken_generator_is_told_either_way(pool: Pool) -> None:
    for together in (True, False):
        request = FunctionRequest(
            "f", "def main_solution(x): return x", generator=Generator("1 // 0"), together=together
        )
        result = pool.run(request)
        assert result.results == [] and result.generation is not None
        assert (result.generation.verdict, result.generation.error) == (
            "exception",
            "ZeroDivisionError: integer division or modulo by zero",
        )


def test_memory_that_one_input_leaves_behind_is_not_missing_for_the_next(pool: Pool) -> None:
    code = "import builtins\ndef main_solution(x):\n    old = getattr(builtins, 'kept', [])\n"
    code += "    builtins.kept = [*old, bytearray(2**28)]\n    return x"
    results = execute(pool, code, *range(6), together=True, limits=Limits(memory_bytes=2**30))
    assert [one.output for one in results] == list(range(6))


def test_what_runs_together_is_not_traced() -> None:
    with pytest.raises(UserError, match="not traced"):
        FunctionRequest("f", "", inputs=[], together=True, trace=True)
