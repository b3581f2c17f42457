"""A worker that is told to stop, or runs out of time."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from codeio_hpc.launch.attempts import Attempt, read_attempts, start_attempt
from codeio_hpc.launch.build import advance
from codeio_hpc.launch.commands import read_config
from codeio_hpc.launch.plan import steps
from codeio_hpc.launch.run import create_or_open_run, open_run
from codeio_hpc.launch.worker import Task, work
from codeio_hpc.teachers.asking import ask
from codeio_hpc.teachers.base import Request, Teacher
from codeio_hpc.teachers.journal import Journal

SLOW = """def slow_{n}(number: int) -> int:
    for step in range({steps}):
        number = number * 7 % 1009
    return number
"""
WORK = """
import sys
from pathlib import Path
from codeio_hpc.launch.worker import Task, work
work(Task(Path(sys.argv[1]), int(sys.argv[2]), "w", 0, tuple(map(int, sys.argv[3:]))))
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has come to its long step; its shards take a second or more each."""
    tmp_path = tmp_path_factory.mktemp("prepared")
    for number in range(8):
        text = SLOW.format(n=number, steps=600_000 + number)
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "src" / f"f{number}.py").write_text(text, encoding="utf-8")
    config = {
        "name": "slow",
        "sources": [{"name": "here", "path": str(tmp_path / "src"), "licence": "x"}],
        "collect": {"files_per_shard": 1, "near_duplicates": None},
        "split": {"near_duplicates": None},
        "sample": {"pairs": 6},
        "teacher": {"kind": "tracer"},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run = create_or_open_run(tmp_path / "run", read_config(tmp_path / "c.yaml", []))
    while (work := advance(run)) is not None and work.step.number < 3:
        assert start(run.folder, work.step.number, *work.shards).wait(timeout=120) == 0
    return run.folder


@pytest.fixture
def run(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "run"))


def start(run: Path, step: int, *shards: int, **variables: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORK, str(run), str(step), *map(str, shards)]
    return subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.PIPE)


def record(run: Path) -> Attempt:
    [attempt] = [attempt for attempt in read_attempts(run) if attempt.step == 3]
    return attempt


def wait_until_it_works(run: Path) -> None:
    deadline = time.monotonic() + 60
    while not any(attempt.step == 3 and attempt.stages for attempt in read_attempts(run)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_away_from_the_time_limit_ends_it_at_once(run: Path, number: signal.Signals) -> None:
    process = start(run, 3, *range(8), CODEIO_DEADLINE=str(time.time() + 3600), CODEIO_WARNED="1")
    wait_until_it_works(run)
    before = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=30) == 85
    assert time.monotonic() - before < 2
    assert (record(run).cause, record(run).signal) == ("interrupted", number.name)


def test_the_warning_before_the_time_limit_lets_it_finish_the_shard_at_hand(run: Path) -> None:
    process = start(run, 3, *range(8), CODEIO_DEADLINE=str(time.time() + 60), CODEIO_WARNING="120")
    wait_until_it_works(run)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 85
    attempt = record(run)
    assert (attempt.cause, attempt.signal) == ("time limit", "SIGUSR1")
    published = attempt.stages["tokenise" if "tokenise" in attempt.stages else "assemble"].shards
    assert 1 <= published < 8 and attempt.shard == published - 1, "the last one that it took up is published"


def test_no_shard_is_begun_that_would_not_be_finished_in_time(run: Path) -> None:
    """Without any signal: 20 s are left for ending, and then less than the slowest shard took."""
    process = start(run, 3, *range(8), CODEIO_DEADLINE=str(time.time() + 24))
    assert process.wait(timeout=60) == 85
    attempt = record(run)
    assert (attempt.cause, attempt.signal, attempt.failures) == ("time limit", None, [])
    left = steps(open_run(run))[3].missing(open_run(run))
    assert left == list(range(8))[-len(left) :] and 0 < len(left) < 8


def test_a_shard_that_fits_no_time_limit_is_a_failure_and_not_tried_for_ever(run: Path) -> None:
    """The first attempt publishes what comes before the long stage; the second gets no further."""
    for restart, code in ((0, 85), (1, 1)):
        variables = {"SLURM_RESTART_COUNT": str(restart), "CODEIO_WARNING": "0"}
        process = start(run, 3, 5, CODEIO_DEADLINE=str(time.time() + 3600), **variables)
        wait_for_record(run, restart, process)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=30) == code
    assert process.stderr is not None and b"shard 5 does not fit into the time limit" in process.stderr.read()
    attempts = [attempt for attempt in read_attempts(run) if attempt.step == 3]
    assert [[failure.shard for failure in attempt.failures] for attempt in attempts] == [[], [5]]


def catches(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for the signal."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    [caught] = [line.partition(":")[2] for line in lines if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (number - 1) & 1)


def wait_for_record(run: Path, restart: int, process: subprocess.Popen[bytes]) -> None:
    """Until the attempt is on record, with the stages before the long one if it is the first, and heeds signals."""
    deadline = time.monotonic() + 60
    while not any(a.step == 3 and a.restart == restart and (a.stages or restart) for a in read_attempts(run)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while not catches(process.pid, signal.SIGUSR1):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_copy_that_slurm_has_given_up_asks_the_teacher_nothing_more(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask_and_be_replaced(teacher: Teacher, request: Request, journal: Journal) -> str:
        asked.append(request)
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("SLURM_RESTART_COUNT", "1")
            start_attempt(run, "w", 0, 3)
        return ask(teacher, request, journal)

    monkeypatch.setattr("codeio_hpc.launch.worker._LOOK_EVERY", 0.0)
    monkeypatch.setattr("codeio_hpc.stages.answer.ask", ask_and_be_replaced)
    work(Task(run, 3, "w", 0, (2, 3)))
    old, _ = [attempt for attempt in read_attempts(run) if attempt.step == 3]
    assert (old.cause, old.shard, len(asked)) == ("superseded", 2, 1)
    assert not list(run.glob("stages/*-answer/part-*"))


def test_the_cpu_time_of_a_stage_has_that_of_its_sandboxes(run: Path) -> None:
    work(Task(run, 3, "w", 0, (2,)))
    sample = record(run).stages["sample"]
    assert 0.5 < sample.cpu_seconds < 2 * sample.seconds + 0.5


def test_a_read_that_fails_removes_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale handle of a network file system says nothing of what is in the file."""

    def stale(path: Path) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    before = sorted(run.glob("stages/*/part-*"))
    with monkeypatch.context() as network:
        network.setattr(Path, "read_bytes", stale)
        work(Task(run, 3, "w", 0, (2,)))
    assert sorted(run.glob("stages/*/part-*")) == before
    [failure] = record(run).failures
    assert failure.shard == 2 and "Stale file handle" in failure.error


def test_the_list_of_sources_is_never_removed(run: Path) -> None:
    """Nothing could make it again."""
    listed = run / "stages" / "00-sources" / "part-00002.parquet"
    content = listed.read_bytes()
    listed.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    shutil.rmtree(run / "stages" / "01-collect")
    work(Task(run, 0, "w", 0, (2,)))
    assert listed.exists()
    [failure] = next(attempt for attempt in read_attempts(run) if attempt.work == "w").failures
    assert failure.shard == 2 and "have changed since it was published" in failure.error
