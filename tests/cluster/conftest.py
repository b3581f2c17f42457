"""A real SLURM cluster for the tests in this folder: one box a session, gone when pytest is gone, however it went."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOX = ROOT / "tools" / "slurm-in-a-box" / "box"

FINAL_STATES = frozenset(["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"])
"""States in which a job stays. PREEMPTED and NODE_FAIL are not among them: such a job is pending again at once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a cluster test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@dataclass(frozen=True)
class SlurmBox:
    """A cluster that is up; commands run inside it, where node names resolve and SLURM_CONF is set."""

    folder: Path

    def run(
        self,
        command: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        timeout: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``env`` is added to this environment.

        Raises:
            AssertionError: ``check`` and its exit code is not 0; the message has its output.
            subprocess.TimeoutExpired: it ran longer than ``timeout`` seconds and was killed.
        """
        # killing what entered the namespace from outside would leave the command behind: timeout stands inside
        limited = ["timeout", "--kill-after=2", str(timeout), *command]
        result = subprocess.run(
            [BOX, "run", self.folder, "--", *limited],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout + 10,
        )
        if result.returncode in (124, 137):
            raise subprocess.TimeoutExpired(list(map(str, command)), timeout, result.stdout, result.stderr)
        if check:
            assert result.returncode == 0, f"{command}: exit {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def sbatch(self, *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
        """Submit; the job's id."""
        output = self.run(["sbatch", *arguments], env=env, cwd=cwd).stdout
        found = re.search(r"Submitted batch job (\d+)", output)
        assert found, output
        return found.group(1)

    def squeue(self, *arguments: str) -> list[str]:
        """Lines of ``squeue`` without its heading; default columns are id, partition, state, restarts, nodes."""
        return self.run(["squeue", "-h", *(arguments or ("-o", "%i %P %T %r %N"))]).stdout.splitlines()

    def jobs(self, job: str) -> list[dict[str, str]]:
        """What the controller knows of a job, or of each element of an array: JobState, Restarts, NodeList…"""
        output = self.run(["scontrol", "-o", "show", "job", job]).stdout
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in output.splitlines() if line.startswith("JobId=")]

    def state(self, job: str) -> str:
        """JobState of a job that is not an array."""
        return self.jobs(job)[0]["JobState"]

    def wait_until(self, job: str, states: Sequence[str], timeout: float = 60) -> list[dict[str, str]]:
        """Wait until a job (every element of an array) is in one of these states; see :meth:`jobs`."""
        deadline = time.monotonic() + timeout
        while True:
            records = self.jobs(job)
            if all(record["JobState"] in states for record in records):
                return records
            assert time.monotonic() < deadline, f"job {job} is not {'/'.join(states)} after {timeout} s: {records}"
            time.sleep(0.2)

    def wait_job(self, job: str, timeout: float = 60) -> list[dict[str, str]]:
        """Wait until a job (every element of an array) has come to its end; see :meth:`jobs`."""
        return self.wait_until(job, sorted(FINAL_STATES), timeout)

    def processes(self) -> int:
        """How many processes of this machine belong to the box: daemons, steps and tasks; 0 once it is down."""
        own = f"SLURM_CONF={self.folder}/".encode()
        return sum(own in _environment(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:  # gone meanwhile, or another user's
        return b""


@pytest.fixture(scope="session")
def slurm_box() -> Iterator[SlurmBox]:
    """The session's cluster: 4 cpu nodes, 2 gpu nodes; see tools/slurm-in-a-box/box."""
    with a_box() as box:
        yield box


@contextmanager
def a_box(*options: str) -> Iterator[SlurmBox]:
    """A cluster of one's own, for as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="box-", dir="/tmp"))  # short: sockets are in it
    process = start_box(folder, *options)
    try:
        yield SlurmBox(folder)
    finally:
        stop_box(process)
        shutil.rmtree(folder, ignore_errors=True)


def start_box(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Bring a box up that goes down when the returned process's stdin is closed, so also when this process dies."""
    process = subprocess.Popen(
        [BOX, "up", folder, "--until-eof", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 60)
    first = process.stdout.readline() if ready else "nothing in 60 s"
    if not first.startswith("up in"):
        process.kill()
        pytest.fail(f"the SLURM box did not come up: {first}{process.stdout.read()}", pytrace=False)
    return process


def stop_box(process: subprocess.Popen[str]) -> None:
    """End a box that :func:`start_box` began."""
    try:
        process.communicate(timeout=20)  # closes its stdin
    except subprocess.TimeoutExpired:
        process.kill()  # and the namespaces with it
        process.communicate(timeout=20)
