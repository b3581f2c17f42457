"""The worker's pool: verdicts, generators, tracing, determinism, and survival."""

from __future__ import annotations

import random
import sys
import time

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox import FunctionRequest, Generator, Limits, Pool, ProgramRequest, ProgramTest, TraceLimits
from codeio_hpc.sandbox.jail import bpf
from codeio_hpc.sandbox.jail.protocol import Answer, Ending
from codeio_hpc.sandbox.jail.start import Jail
from tests.sandbox.asking import execute


@pytest.mark.parametrize(
    ("body", "verdict", "error"),
    [
        ("return x", "ok", None),
        ("return None", "ok", None),
        ("return x / 0", "exception", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "exception", "SystemExit: 3"),
        ("return main_solution(x)", "exception", "RecursionError"),
        ("return {1: 2}", "not_json", "a key of type int"),
        ("return {1, 2}", "not_json", "a value of type set"),
        ("return b''", "not_json", "a value of type bytes"),
        ("return [float('nan')]", "not_json", "nan is not JSON"),
        ("return '\\ud800'", "not_json", "a lone surrogate"),
        ("return 10 ** 10000", "not_json", "an integer of 33220 bits"),
        ("return [0] * (1 << 40)", "memory", "MemoryError"),
        ("return 'x' * 2_000_000", "output_too_large", "larger than 1048576 bytes"),
        ("return 'é' * 600_000", "output_too_large", "larger than 1048576 bytes"),
        ("open('/tmp/x', 'w')", "forbidden", "Read-only file system"),
        ("import os; os.fork()", "forbidden", "PermissionError"),
        ("import os; os.abort()", "crashed", "ended by SIG"),
        ("import os; os._exit(3)", "no_result", "exited with code 3"),
        ("import os; os._exit(0)", "no_result", "exited before returning"),
        ("import missing_library", "exception", "ModuleNotFoundError"),
    ],
)  # fmt: skip
def test_each_ending_has_its_verdict(pool: Pool, body: str, verdict: str, error: str | None) -> None:
    (result,) = execute(pool, f"def main_solution(x):\n    {body}\n")
    assert result.verdict == verdict, result
    assert (result.error or "").find(error or "") >= 0 and (result.error is None) == (error is None)
    assert result.input == {"x": 1} and result.wall_ms > 0


@pytest.mark.parametrize("code", ["def other(x): return 1", "def main_solution(x:", "raise ValueError('at import')"])
def test_a_module_that_does_not_give_the_function_is_an_exception(pool: Pool, code: str) -> None:
    assert execute(pool, code)[0].verdict == "exception"


def test_what_is_printed_does_not_disturb_the_result(pool: Pool) -> None:
    code = "import sys\ndef main_solution(x):\n    print('a', flush=True); print('b', file=sys.stderr)\n    return x"
    assert execute(pool, code)[0].output == 1
    assert execute(pool, "def main_solution(x): return input()")[0].error == "EOFError: EOF when reading a line"


def test_tuples_become_lists_and_mappings_objects(pool: Pool) -> None:
    code = "from collections import Counter\ndef main_solution(x): return (1, [(2,)], Counter('aa'))"
    assert execute(pool, code)[0].output == [1, [[2]], {"a": 2}]


def test_a_function_that_changes_its_input_changes_only_its_own_copy(pool: Pool) -> None:
    results = execute(pool, "def main_solution(x):\n    x.append(9)\n    return x", [1], [1])
    assert [one.output for one in results] == [[1, 9], [1, 9]]
    assert [one.input for one in results] == [{"x": [1]}, {"x": [1]}]


def test_nothing_is_left_from_one_input_to_the_next(pool: Pool) -> None:
    code = "seen = []\ndef main_solution(x):\n    seen.append(x)\n    return seen"
    assert [one.output for one in execute(pool, code, 1, 2)] == [[1], [2]]


def test_outputs_are_compared_outside(pool: Pool) -> None:
    results = execute(pool, "def main_solution(x): return x", 1, 2, 1.0, True, expected=[1, 3, 1, 1])
    assert [one.correct for one in results] == [True, False, False, False]


def test_a_timeout_counts_after_a_second_try_and_two_end_the_function(pool: Pool) -> None:
    code = "def main_solution(x):\n    while x: pass\n    return x"
    started = time.monotonic()
    results = execute(pool, code, 1, 0, 1, 0, 1, limits=Limits(cpu_seconds=0.2))
    assert [one.verdict for one in results] == ["timeout", "ok", "timeout", "timeout", "timeout"]
    assert results[0].error == "out of CPU time" and 180 < results[0].cpu_ms < 600
    assert results[3].error == "not run: 2 inputs timed out before it" and results[3].cpu_ms == 0
    assert time.monotonic() - started < 5


def test_a_slow_wall_clock_is_forgiven_once(pool: Pool) -> None:
    code = "import time\ndef main_solution(x):\n    time.sleep(x)\n    return x"
    limits = Limits(cpu_seconds=1, wall_seconds=0.3)
    assert [one.verdict for one in execute(pool, code, 0.5, 30, limits=limits)] == ["ok", "timeout"]


def test_random_numbers_are_seeded_before_every_execution(pool: Pool) -> None:
    code = "import random\ndef main_solution(x): return random.random()"
    first, second = execute(pool, code, 1, 2)
    assert first.output == second.output
    assert execute(pool, code, seed=7)[0].output != first.output


def test_another_hash_seed_shows_what_depends_on_it() -> None:
    code = "import random\ndef main_solution(x): return [list({'a', 'b', 'c', 'd', 'e'}), random.random(), x]"
    outputs = []
    for seed in (0, 0, 1):
        with Pool(hash_seed=seed) as pool:
            outputs.append(execute(pool, code)[0].output)
    assert outputs[0] == outputs[1]
    assert outputs[0][0] != outputs[2][0] and outputs[0][1] != outputs[2][1] and outputs[0][2] == outputs[2][2]


GENERATOR = "import random\ndef input_generator():\n    return {'x': random.randint(1, 1000)}\n"


def test_a_generator_makes_distinct_seeded_inputs(pool: Pool) -> None:
    request = FunctionRequest("g", "def main_solution(x): return x * 2", generator=Generator(GENERATOR, count=10))
    first, again = pool.run(request), pool.run(request)
    inputs = [one.input for one in first.results]
    assert len(inputs) == 10 and len({str(value) for value in inputs}) == 10
    assert all(one.output == 2 * one.input["x"] for one in first.results)
    assert inputs == [one.input for one in again.results]
    other = pool.run(FunctionRequest("g", request.code, generator=Generator(GENERATOR, count=10, seed=1)))
    assert inputs != [one.input for one in other.results]


def test_a_failing_generator_call_costs_that_call(pool: Pool) -> None:
    code = "n = 0\ndef input_generator():\n    global n\n    n += 1\n    if n % 2: raise ValueError(n)\n"
    code += "    return {'x': n % 10}\n"
    request = FunctionRequest("g", code + "def main_solution(x): return x", generator=Generator(count=4, attempts=9))
    result = pool.run(request)
    assert [one.input for one in result.results] == [{"x": 2}, {"x": 4}, {"x": 6}, {"x": 8}]
    assert result.generation is not None
    assert (result.generation.verdict, result.generation.attempts, result.generation.failed) == ("ok", 8, 4)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("def input_generator():\n    while True: pass", "timeout"),
        ("raise KeyError('at import')", "exception"),
        ("import os\ndef input_generator(): os._exit(0)", "no_result"),
    ],
)
def test_a_generator_that_never_gives_anything_has_a_verdict(pool: Pool, code: str, verdict: str) -> None:
    limits = Limits(cpu_seconds=0.2)
    result = pool.run(FunctionRequest("g", "", generator=Generator(code), limits=limits))
    assert result.results == [] and result.generation is not None and result.generation.verdict == verdict


@pytest.mark.parametrize("slow", ["time.sleep(0.3)", "sum(range(2_000_000))"])
def test_a_slow_generator_gives_what_it_has_in_time(pool: Pool, slow: str) -> None:
    code = f"import time\nn = 0\ndef input_generator():\n    global n\n    n += 1\n    {slow}\n"
    code += "    return {'x': n}"
    request = FunctionRequest(
        "g", "def main_solution(x): return x", generator=Generator(code, count=1000), limits=Limits(cpu_seconds=0.5)
    )
    assert 3 <= len(pool.run(request).results) < 200


def test_a_trace_tells_lines_calls_returns_and_changes(pool: Pool) -> None:
    code = "def double(n):\n    return 2 * n\ndef main_solution(x):\n    y = double(x)\n    return [y]\n"
    (result,) = execute(pool, code, 4, trace=True)
    assert result.output == [8] and result.trace is not None and result.trace_complete
    seen = [(event.line, event.event, event.function, event.depth) for event in result.trace]
    assert seen == [
        (3, "call", "main_solution", 1), (4, "line", "main_solution", 1), (1, "call", "double", 2),
        (2, "line", "double", 2), (2, "return", "double", 2), (5, "line", "main_solution", 1),
        (5, "return", "main_solution", 1),
    ]  # fmt: skip
    assert result.trace[0].changed == {"x": "4"} and result.trace[5].changed == {"y": "8"}
    assert result.trace[4].value == "8" and result.trace[6].value == "[8]"


def test_a_long_trace_stops_and_the_function_goes_on(pool: Pool) -> None:
    code = "def main_solution(x):\n    t = 0\n    for i in range(x):\n        t += i\n    return t"
    (result,) = execute(pool, code, 10_000, trace=TraceLimits(events=50))
    assert result.output == sum(range(10_000)) and len(result.trace or ()) == 50 and not result.trace_complete


@pytest.mark.parametrize(
    "line",
    [b'[1,"line","f",1,{},null]', b'[1,"line","f",1,{}]', b'["1","line","f",1,{},null]', b"[" * 200, b"\xff"],
    ids=["too many", "too short", "another type", "too deep", "no text"],
)
def test_a_forged_trace_is_no_trace_and_costs_the_worker_little(pool: Pool, line: bytes) -> None:
    forge = f"import os\nos.write(3, ({line!r} + bytes([10])) * 450)\n"
    started = time.process_time()
    (result,) = execute(pool, forge.replace("450", "30_000") + "def main_solution(x): return x", trace=True)
    assert (result.verdict, result.output) in [("ok", 1), ("output_too_large", None)] and not result.trace, result
    (test,) = pool.run_program(ProgramRequest("p", forge, [ProgramTest()], trace=True)).results
    assert (test.verdict, test.trace) == ("ok", None)
    assert time.process_time() - started < 1


def test_hostile_reprs_do_not_spoil_a_trace(pool: Pool) -> None:
    code = "class A:\n    def __repr__(self): raise SystemExit\n"
    code += "def main_solution(x):\n    a, b = A(), object()\n    return x"
    (result,) = execute(pool, code, trace=True)
    assert result.output == 1 and result.trace is not None
    changed = {name: text for event in result.trace for name, text in event.changed.items()}
    assert "cannot be shown" in changed["a"] and changed["b"] == "<object object>"


def test_messages_hold_no_path_of_the_host(pool: Pool) -> None:
    (result,) = execute(pool, "from json import nothing_of_this_name\ndef main_solution(x): pass")
    assert result.error is not None and sys.base_prefix not in result.error and "<python>" in result.error


def test_numpy_is_there_for_code_that_imports_it(pool: Pool) -> None:
    pytest.importorskip("numpy")
    code = "import numpy as np\ndef main_solution(x): return [float(np.linalg.norm([3, 4])), np.float64(x)]"
    (result,) = execute(pool, code)
    assert result.output == [5.0, 1.0] and result.cpu_ms < 200
    assert execute(pool, "import numpy as np\ndef main_solution(x): return np.int64(1)")[0].verdict == "not_json"


def test_samples_good_and_hostile_in_any_order_never_swap_results(pool: Pool) -> None:
    chance = random.Random(3)
    bodies = [
        ("return [x, x * x]", "ok"), ("raise ValueError(x)", "exception"), ("import os; os._exit(0)", "no_result"),
        ("import os; os.write(3, b'{}'); return x", "no_result"), ("import os; os.abort()", "crashed"),
        ("import os; os.write(3, b'x' * 50_000_000)", "output_too_large"), ("return {x}", "not_json"),
    ]  # fmt: skip
    for number in range(150):
        body, verdict = chance.choice(bodies)
        (result,) = execute(pool, f"def main_solution(x):\n    {body}", number)
        assert result.verdict == verdict and result.input == {"x": number}
        if verdict == "ok":
            assert result.output == [number, number * number]
        if verdict == "exception":
            assert result.error == f"ValueError: {number}"


def test_a_probe_that_is_killed_from_outside_says_nothing_about_the_jail(monkeypatch: pytest.MonkeyPatch) -> None:
    run, killed = Jail.run, Answer(Ending.SIGNALLED, 9, 0.0, 0.0, 0, b"")
    endings = [killed]
    monkeypatch.setattr(Jail, "run", lambda *arguments: endings.pop() if endings else run(*arguments))
    with Pool(level="landlock+seccomp") as pool:
        assert execute(pool, "def main_solution(x): return x")[0].output == 1
    assert not endings


def test_a_zygote_is_replaced_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codeio_hpc.sandbox.jails.RUNS_PER_ZYGOTE", 12)
    with Pool() as pool:
        seen = set()
        for number in range(30):
            assert execute(pool, "def main_solution(x): return x", number)[0].output == number
            seen.add(pool.jails.running["plain"].process.pid)
    assert len(seen) > 2


def test_the_strongest_level_is_taken_and_recorded() -> None:
    with Pool() as pool:
        result = pool.run(FunctionRequest("f", "def main_solution(): return 1", inputs=[{}]))
        assert result.isolation == pool.isolation == "nsjail"
    with Pool(level="none") as pool:
        result = pool.run(FunctionRequest("f", "def main_solution(): return 1", inputs=[{}]))
        assert result.isolation == "none" and result.results[0].output == 1


def test_without_the_level_asked_for_nothing_runs() -> None:
    with Pool(minimum="nsjail", nsjail="/nonexistent/nsjail") as pool, pytest.raises(UserError) as caught:
        execute(pool, "def main_solution(x): return 1")
    assert "nonexistent" in caught.value.found and "nsjail is required" in caught.value.why
    with Pool(nsjail="/nonexistent/nsjail") as pool:
        result = pool.run(FunctionRequest("f", "def main_solution(): return 1", inputs=[{}]))
        assert result.isolation == "landlock+seccomp"


def test_a_jail_that_lets_a_probe_through_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wider = [*bpf.PYTHON, bpf.Rule("openat")]
    monkeypatch.setattr(bpf, "PYTHON", [rule for rule in wider if rule.call != "openat" or not rule.conditions])
    with Pool(level="landlock+seccomp") as pool, pytest.raises(UserError, match="self-test"):
        monkeypatch.setattr("codeio_hpc.sandbox.jail.readable._SYSTEM", ("/lib", "/lib64", "/usr/lib", "/etc/passwd"))
        execute(pool, "def main_solution(x): return 1")


@pytest.mark.parametrize(
    "fields", [{}, {"inputs": [{}], "generator": Generator()}, {"inputs": [{}], "expected": [1, 2]}]
)
def test_a_request_that_does_not_add_up_is_refused(fields: dict) -> None:
    with pytest.raises(UserError):
        FunctionRequest("f", "def main_solution(): pass", **fields)


def test_limits_are_read_and_checked() -> None:
    assert Limits.parse(["cpu_seconds=1.5", "memory_bytes=1G"]) == Limits(cpu_seconds=1.5, memory_bytes=2**30)
    for words in (["cpu=1"], ["cpu_seconds=x"], ["cpu_seconds=0"], ["memory_bytes=1"], ["wall_seconds=nan"], ["x"]):
        with pytest.raises(UserError):
            Limits.parse(words)
