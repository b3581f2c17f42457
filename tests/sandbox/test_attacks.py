"""Each file of tests/attacks is run against a worker; the sample after it must find a clean world."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeio_hpc.sandbox import Execution, FunctionRequest, Limits, Pool

ATTACKS = sorted((Path(__file__).parents[1] / "attacks").glob("*.py"))
LEVELS = ["nsjail", "landlock+seccomp"]
LIMITS = Limits(cpu_seconds=0.5, wall_seconds=1.0, memory_bytes=512 * 2**20)

ENDINGS = {
    "forge_frames": "no_result",
    "send_two_results": "no_result",
    "leave_early": "no_result",
    "flood_the_answer": "output_too_large",
    "thread_bomb": "exception",  # "can't start new thread"
    "memory_bomb": "memory|forbidden|exception|timeout",  # a mapping that fails is an OSError
    "ignore_signals": "timeout",
    "catch_everything": "timeout",
    "sleep_for_ever": "timeout",
    "drown_in_output": "timeout",
    "crash_the_interpreter": "crashed",
    "json_tricks": "not_json",
    "late_threads": "ok|no_result",  # either its own result, or a spoilt one
    "patch_the_interpreter": "ok|no_result",
}
"""How an attack ends that does not report what got through; the others return an empty list."""

BEFORE = """
MARK = "PREVIOUS" + "-SAMPLE-" + "MARK"
def main_solution(text):
    return (text + MARK) * 1000
"""

WITNESS = """
import builtins, gc, json, math, os, random, resource, sys, threading

def main_solution(numbers):
    seen = {
        "sum": sum(numbers),
        "files": [p for f in ("/tmp", "/dev/shm", "/", "/dev", "/var/tmp") for e in ("", "-d", "-l", "-h", "-p", "-r")
                  if os.path.lexists(p := os.path.join(f, "codeio-attack" + e))],
        "threads": threading.active_count(),
        "processors": sorted(os.sched_getaffinity(0)),
        "limits": [list(resource.getrlimit(n)) for n in (0, 1, 2, 3, 4, 5, 7, 8, 9)],
        "random": random.random(),
        "hash": hash("witness"),
        "pi": math.pi,
        "builtins": len(dir(builtins)),
        "recursion": sys.getrecursionlimit(),
        "modules": sorted(sys.modules),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "groups": [os.getuid(), os.getgid(), *os.getgroups()],
        "json": json.dumps({"a": [1]}),
        "descriptors": [n for n in range(64) if is_open(n)],
    }
    return seen

def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
"""


@pytest.fixture(scope="module", params=LEVELS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(limits=LIMITS, level=request.param) as pool:
        yield pool


def execute(pool: Pool, code: str, value: dict, expected: list | None = None) -> Execution:
    return pool.run(FunctionRequest("attack", code, inputs=[value], expected=expected)).results[0]


@pytest.fixture(scope="module")
def clean_world(pool: Pool) -> object:
    before = execute(pool, WITNESS, {"numbers": [1, 2, 3]})
    assert before.verdict == "ok", before.error
    return before.output


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda path: path.stem)
def test_an_attack_gets_nothing_and_leaves_nothing(pool: Pool, clean_world: object, attack: Path) -> None:
    code = attack.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(code)), "an attack says what it tries"
    assert execute(pool, BEFORE, {"text": "x"}).verdict == "ok"
    jail = pool.jails.running["plain"]

    result = execute(pool, code, {}, expected=["EXPECTED-OUTPUT-MARK"])

    assert result.verdict in ENDINGS.get(attack.stem, "ok").split("|"), result
    if attack.stem not in ENDINGS:
        assert result.output == [], "this got through"
    assert not result.correct
    after = execute(pool, WITNESS, {"numbers": [1, 2, 3]})
    assert after.output == clean_world
    assert pool.jails.running["plain"] is jail, "the attack cost the jail"


def test_there_are_at_least_twenty_attacks() -> None:
    assert len(ATTACKS) >= 20
