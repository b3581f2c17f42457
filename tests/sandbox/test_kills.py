"""Samples, zygotes, jails and workers are killed at random: no result is lost, swapped, doubled or wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from codeio_hpc.sandbox import FunctionRequest, Generator, Limits, Pool, ProgramRequest, ProgramTest
from tests.sandbox.asking import LEVELS
from tests.sandbox.processes import descendants, left_after

LIMITS = Limits(cpu_seconds=20)

BUSY = "t = 0\n    for i in range(60000): t += i % 7\n    "
FUNCTION = f"""
import os, sys
def main_solution(x):
    {BUSY}if x % 4 == 1:
        raise ValueError(x)
    if x % 4 == 2:
        sys.exit(x)
    return [x, x * x]
def input_generator(n=iter(range(10**9))):
    return {{"x": 4 * next(n)}}
"""
PROGRAM = f"""
import sys
def main():
    {BUSY}n = int(input())
    print(n, n * n)
    sys.exit(n % 3)
main()
"""
NATIVE = """
#include <stdio.h>
int main() {
    long n;
    for (volatile long i = 0; i < 10000000; i++) {}
    if (scanf("%ld", &n) != 1) return 9;
    printf("%ld %ld\\n", n, n * n);
    return n % 3;
}
"""

Outcome = tuple[object, ...]
INFRASTRUCTURE: Outcome = ("infrastructure",)


def function_outcome(x: int) -> Outcome:
    match x % 4:
        case 1:
            return ("exception", None, f"ValueError: {x}")
        case 2:
            return ("exception", None, f"SystemExit: {x}")
    return ("ok", [x, x * x], None)


def ask_for_functions(pool: Pool, number: int, together: bool) -> tuple[list[Outcome], list[Outcome]]:
    numbers = [number, number + 1]
    inputs = [{"x": n} for n in numbers]
    result = pool.run(FunctionRequest(str(number), FUNCTION, inputs=inputs, together=together, limits=LIMITS))
    assert result.id == str(number) and [one.input for one in result.results] == inputs
    told = [(one.verdict.value, one.output, one.error) for one in result.results]
    return [one if one[0] != "infrastructure" else INFRASTRUCTURE for one in told], list(map(function_outcome, numbers))


def ask_for_a_generator(pool: Pool, number: int) -> tuple[list[Outcome], list[Outcome]]:
    request = FunctionRequest(str(number), FUNCTION, generator=Generator(count=2), limits=LIMITS)
    result = pool.run(request)
    assert result.generation is not None
    if result.generation.verdict == "infrastructure":
        return [INFRASTRUCTURE], [()]
    told = [(one.verdict.value, one.output, one.error) for one in result.results]
    return [one if one[0] != "infrastructure" else INFRASTRUCTURE for one in told], [
        ("ok", [n, n * n], None) for n in (0, 4)
    ]


def ask_for_programs(pool: Pool, number: int, language: str) -> tuple[list[Outcome], list[Outcome]]:
    numbers = [number, number + 1]
    code = NATIVE if language == "cpp" else PROGRAM
    tests = [ProgramTest(f"{n}\n", f"{n} {n * n}\n") for n in numbers]
    result = pool.run_program(ProgramRequest(str(number), code, tests, language, limits=LIMITS))
    assert result.id == str(number)
    told = [(one.exit_code, one.stdout.decode(), one.correct) for one in result.results]
    right = [(n % 3, f"{n} {n * n}\n", n % 3 == 0) for n in numbers]
    failed = [one.verdict == "infrastructure" for one in result.results]
    return [INFRASTRUCTURE if lost else one for lost, one in zip(failed, told, strict=True)], right


WAYS: list[Callable[[Pool, int], tuple[list[Outcome], list[Outcome]]]] = [
    lambda pool, number: ask_for_functions(pool, number, False),
    lambda pool, number: ask_for_functions(pool, number, True),
    ask_for_a_generator,
    lambda pool, number: ask_for_programs(pool, number, "python"),
    lambda pool, number: ask_for_programs(pool, number, "cpp"),
]


KINDS = {"nsjail": ["nsjail", "zygote", "sample"], "landlock+seccomp": ["zygote", "sample"]}
"""Processes of a jail, each the child of the one before."""


class Killer(threading.Thread):
    """Kills one process of a pool's jails after the other, each of another kind, at random moments."""

    def __init__(self, pool: Pool, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.pool, self.chance = pool, chance
        self.killed: Counter[str] = Counter()
        self.stopped = threading.Event()
        self.answered = 0

    def run(self) -> None:
        while not self.stopped.wait(self.chance.uniform(0.02, 0.4)):
            kind = self.chance.choice(KINDS[self.pool.jails.level])
            answered, until = self.answered, time.monotonic() + 2
            while self.answered == answered and self.chance.random() < 0.99 and time.monotonic() < until:
                time.sleep(0.005)  # most jails live to give an answer, some are killed again before
            until = time.monotonic() + 1
            while time.monotonic() < until and not self.kill(kind):
                time.sleep(0.001)  # a sample is there for some milliseconds only

    def kill(self, kind: str) -> bool:
        jails = [jail for jail in list(self.pool.jails.running.values()) if jail.process.poll() is None]
        if not jails:
            return False
        jail = self.chance.choice(jails)
        chain = [jail.process.pid, *descendants(jail.process.pid)]
        victims = dict(zip(KINDS[jail.level], chain, strict=False))
        if kind not in victims:
            return False
        try:
            os.kill(victims[kind], signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.killed[kind] += 1
        return True


def kill_at_random(level: str, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    lost = number = 0
    with Pool(level=level) as pool:
        for way in WAYS:  # every kind of jail has started once
            told, right = way(pool, number)
            assert told == right
        killer = Killer(pool, chance)
        killer.start()
        try:
            while killer.killed.total() < kills:
                number += 2
                told, right = chance.choice(WAYS)(pool, number)
                assert len(told) == len(right)
                killer.answered += 1
                assert all(one in (expected, INFRASTRUCTURE) for one, expected in zip(told, right, strict=True))
                lost += told.count(INFRASTRUCTURE)
        finally:
            killer.stopped.set()
            killer.join()
        for way in WAYS:  # and all is well when nobody kills
            told, right = way(pool, number)
            assert told == right
        rest = [jail.process.pid for jail in pool.jails.running.values()]
        rest += [below for pid in rest for below in descendants(pid)]
    print(f"{level}: {number // 2} requests, killed {dict(killer.killed)}, {lost} results given up")
    assert lost <= killer.killed.total() // 2, "a result is given up only after two failures"
    assert not left_after(rest, 5)


@pytest.mark.parametrize("level", LEVELS)
def test_killing_what_runs_loses_swaps_and_doubles_nothing(level: str) -> None:
    kill_at_random(level, 7, 10)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("level", LEVELS)
def test_killing_what_runs_two_hundred_times_loses_swaps_and_doubles_nothing(level: str, seed: int) -> None:
    kill_at_random(level, seed, 50)


def lines(path: Path) -> list[dict]:
    """The complete lines of a file; a worker that was killed leaves half a line at most."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def kill_workers(folder: Path, seed: int, requests: int, kills: int) -> None:
    """``codeio exec`` until every request is answered, killed again and again and restarted with what is missing."""
    chance = random.Random(seed)
    code = "def main_solution(x):\n    return [x, 'long' * 1000]"  # soon more than a buffer holds
    missing = [json.dumps({"id": n, "code": code, "inputs": [{"x": n}]}) for n in range(requests)]
    source, sink = folder / "in.jsonl", folder / "out.jsonl"
    answered: list[dict] = []
    killed = 0
    while missing:
        source.write_text("".join(line + "\n" for line in missing), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "codeio_hpc",
            "exec",
            "--in",
            str(source),
            "--out",
            str(sink),
            "--workers",
            "2",
        ]
        worker = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        ended, below = False, []
        try:
            if killed < kills:
                until = time.monotonic() + 60
                while len(lines(sink)) < chance.randint(1, 12) and worker.poll() is None and time.monotonic() < until:
                    time.sleep(0.01)
                below = descendants(worker.pid)
            else:
                assert worker.wait(120) == 0
        finally:
            ended = worker.poll() is not None
            worker.kill()
            worker.wait()
        killed += not ended
        assert not left_after(below, 5), "processes outlive their worker"
        now = lines(sink)
        sink.unlink()
        answered += now
        missing = missing[len(now) :]
    assert [(one["id"], one["results"][0]["verdict"]) for one in answered] == [(n, "ok") for n in range(requests)]
    assert all(one["results"][0]["output"] == [one["id"], "long" * 1000] for one in answered)
    print(f"{killed} workers killed over {requests} requests")
    assert killed == kills


def test_killing_workers_loses_swaps_and_doubles_nothing(tmp_path: Path) -> None:
    kill_workers(tmp_path, 1, 300, 2)


@pytest.mark.long
def test_killing_workers_again_and_again_loses_swaps_and_doubles_nothing(tmp_path: Path) -> None:
    kill_workers(tmp_path, 2, 2000, 20)


ENDLESS_CPP = "template <int N, int M> struct T { static const int v = T<N - 1, 2 * M>::v + T<N - 1, 2 * M + 1>::v; };"
ENDLESS_CPP += "template <int M> struct T<0, M> { static const int v = 1; }; int main() { return T<28, 1>::v; }"
DOINGS = {
    "nothing": "time.sleep(100)",
    "a function": "pool.run(FunctionRequest('f', 'def main_solution():\\n    while True: pass', inputs=[{}]))",
    "a program": "pool.run_program(ProgramRequest('p', 'while True: pass', [ProgramTest('x' * 10**6)]))",
    "a native program": "pool.run_program(ProgramRequest('p', 'int main() { for (;;) {} }', [ProgramTest()], 'cpp'))",
    "a compiler": f"pool.run_program(ProgramRequest('p', {ENDLESS_CPP!r}, [ProgramTest()], 'cpp'))",
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("doing", DOINGS)
def test_a_killed_worker_leaves_no_process(level: str, doing: str, stack: ExitStack) -> None:
    # what it was compiling stays behind: a folder that goes with the test, and that a jail's user may enter
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    os.chmod(folder, 0o755)
    program = f"""
import time
from codeio_hpc.sandbox import FunctionRequest, Pool, ProgramRequest, ProgramTest
pool = Pool(level={level!r})
pool.run(FunctionRequest("f", "def main_solution(): return 1", inputs=[{{}}]))
print("ready", flush=True)
{DOINGS[doing]}
"""
    command, environment = [sys.executable, "-c", program], {**os.environ, "TMPDIR": folder}
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
        wanted = 1 + (level == "nsjail") + (doing != "nothing") + 2 * (doing == "a compiler")
        until = time.monotonic() + 30
        while len(descendants(worker.pid)) < wanted and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.1)
        jail = descendants(worker.pid)
        assert len(jail) >= wanted
    finally:
        worker.kill()
        worker.wait()
    assert not left_after(jail, 5)
