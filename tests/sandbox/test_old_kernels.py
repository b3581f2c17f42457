"""Kernels before 5.8, as RHEL 8 has: setns(2) takes no pidfd, so a process stands between zygote and child."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from codeio_hpc.sandbox import Limits, Pool, ProgramRequest, ProgramTest
from tests.sandbox.asking import execute


@pytest.fixture(scope="module", params=["nsjail", "seccomp"])
def old_pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("codeio_hpc.sandbox.jail.start._kernel", lambda: (4, 18))
        with Pool(limits=Limits(cpu_seconds=0.5, wall_seconds=0.8), level=request.param) as pool:
            execute(pool, "def main_solution(x): return x")
            yield pool


@pytest.mark.parametrize(
    ("body", "verdict", "error"),
    [
        ("return x", "ok", ""),
        ("return x / 0", "exception", "ZeroDivisionError"),
        ("while True: pass", "timeout", "out of CPU time"),
        ("import time; time.sleep(60)", "timeout", "out of wall time"),
        ("return 'x' * 2_000_000", "output_too_large", "larger"),
        ("import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV"),
        ("import os; os._exit(5)", "no_result", "exited with code 5"),
        ("import os; os.fork()", "forbidden", "PermissionError"),
        ("import os; os.kill(os.getppid() or 1, 9)", "forbidden", "PermissionError"),
    ],
)
def test_each_ending_is_told_as_on_newer_ones(old_pool: Pool, body: str, verdict: str, error: str) -> None:
    (result,) = execute(old_pool, f"def main_solution(x):\n    {body}\n")
    assert result.verdict == verdict and error in (result.error or ""), result
    if body.startswith("while"):
        assert 450 < result.cpu_ms < 1000


def test_each_child_is_alone_in_its_namespace(old_pool: Pool) -> None:
    (result,) = execute(old_pool, "import os\ndef main_solution(x): return [os.getpid(), os.getppid()]")
    if old_pool.isolation == "nsjail":
        assert result.output == [1, 0]
    else:
        assert result.output[0] != result.output[1]


def test_programs_run_too(old_pool: Pool) -> None:
    tests = [ProgramTest("1\n2\n", "3"), ProgramTest("5", "5")]
    result = old_pool.run_program(ProgramRequest("p", "print(sum(map(int, open(0))))", tests))
    assert result.correct


def test_nothing_is_left_of_a_run_that_was_ended(old_pool: Pool) -> None:
    before = descendants(old_pool)
    execute(old_pool, "import time\ndef main_solution(x): time.sleep(60)")
    assert descendants(old_pool) == before


def test_a_process_in_between_that_is_killed_costs_one_more_try(old_pool: Pool) -> None:
    zygote = descendants(old_pool)

    def kill() -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for process in descendants(old_pool)[len(zygote) :]:
                os.kill(process, signal.SIGKILL)
                return
            time.sleep(0.005)

    thread = threading.Thread(target=kill)
    thread.start()
    (result,) = execute(old_pool, "import time\ndef main_solution(x):\n    time.sleep(0.3)\n    return x")
    thread.join()
    assert result.verdict == "ok" and result.output == 1


def descendants(pool: Pool) -> list[int]:
    """All processes of the plain jail, parents first."""
    found = [pool.jails.running["plain"].process.pid]
    for process in found:
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True)
        found += [int(word) for word in listed.stdout.split()]
    return found
