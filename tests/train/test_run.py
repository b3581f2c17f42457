"""The record that an attempt at training keeps."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.launch.attempts import Attempt, read_attempts, training_moments
from codeio_hpc.train import run as training
from codeio_hpc.train.lease import Lease, take


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def on_record(run: Path, lease: Lease, notice: Any = None) -> AbstractContextManager[Attempt]:
    """The record of rank 0's attempt at stage 1, which nobody tells to stop unless ``notice`` says so."""
    plan: Any = SimpleNamespace(run=run, name="stage1")
    world: Any = SimpleNamespace(rank=0)
    return training._on_record(plan, world, notice or SimpleNamespace(received=None, when=None), lease)


def test_an_attempt_shows_that_it_lives_so_that_a_killed_one_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_SIGN_OF_LIFE", 0.02)

    def record() -> Attempt:
        [attempt] = read_attempts(tmp_path)
        return attempt

    with on_record(tmp_path, take(tmp_path, "stage1")):
        first = record()
        wait_for(lambda: record().saved > first.saved)
        assert record().cause is None, "killed now, it has used the time until then"
    assert record().cause == "done"
    last = record().saved
    time.sleep(0.1)
    assert record().saved == last, "it shows no life after its end"


def test_a_disk_that_is_out_of_sight_for_a_while_does_not_end_the_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_SIGN_OF_LIFE", 0.02)
    asked: list[None] = []

    def out_of_sight() -> bool:
        asked.append(None)
        raise OSError(errno.ESTALE, "Stale file handle")

    with on_record(tmp_path, lease := take(tmp_path, "stage1")):
        with monkeypatch.context() as patch:
            patch.setattr(lease, "is_lost", out_of_sight)
            wait_for(lambda: bool(asked))
        shown = json.loads(lease._path.read_text())["saved"]
        wait_for(lambda: json.loads(lease._path.read_text())["saved"] > shown)


def test_an_attempt_that_was_taken_for_dead_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_SIGN_OF_LIFE", 0.02)
    left: list[int] = []
    monkeypatch.setattr(training, "_leave", left.append)
    with on_record(tmp_path, lease := take(tmp_path, "stage1")):
        time.sleep(0.1)
        assert not left
        assert Lease(tmp_path / "train/stage1", 2).claim() and lease.is_lost()
        wait_for(lambda: left[:1] == [64])


def test_a_moment_and_a_notice_are_on_record_at_once(tmp_path: Path) -> None:
    notice: Any = SimpleNamespace(received=None, when=None, is_for_the_time_limit=lambda: False)

    def record() -> Attempt:
        [attempt] = read_attempts(tmp_path)
        return attempt

    with on_record(tmp_path, take(tmp_path, "stage1"), notice) as attempt:
        assert 0 < attempt.began - record().moments["process"] + 1 < 3600
        attempt.reach("met", 5.0)
        attempt.reach("met", 6.0)
        wait_for(lambda: record().moments.get("met") == 5.0)
        notice.received, notice.when = "SIGUSR1", 7.0  # killed now, the record has it
        wait_for(lambda: record().moments.get("told") == 7.0)
        assert (record().signal, record().cause) == ("SIGUSR1", None)
    assert record().cause == "interrupted"


def test_the_batch_shell_tells_when_its_job_was_queued_and_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEIO_QUEUED", "1700000000")
    monkeypatch.setenv("CODEIO_BEGAN", "1700000007.25")
    assert training_moments() | {"process": 0} == {"queued": 1.7e9, "script": 1700000007.25, "process": 0}


def test_the_end_of_a_training_says_where_the_best_by_validation_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models, checkpoints = tmp_path / "models", tmp_path / "checkpoints" / "stage1"
    plan: Any = SimpleNamespace(run=tmp_path, name="stage1", models=models, checkpoints=checkpoints)
    (tmp_path / "train" / "stage1").mkdir(parents=True)
    measured = [{"step": step, "loss": loss} for step, loss in ((500, 2.5), (1000, 1.25), (1500, 1.5))]
    text = "".join(json.dumps(line) + "\n" for line in measured)
    (tmp_path / "train" / "stage1" / "validation.jsonl").write_text(text + '{"step": 15', encoding="utf-8")

    def told(as_json: bool) -> str:
        training._print_done(plan, {"steps": 1500}, as_json, "finished")
        return capsys.readouterr().out

    line = told(False).splitlines()[1]
    assert line.startswith(
        "validation loss: last 1.5000 at step 1,500, best 1.2500 at step 1,000, whose checkpoint is not"
    )
    folder = checkpoints / "step-001000"
    folder.mkdir(parents=True)
    first, line = told(False).splitlines()
    assert first == f"stage1 finished: 1,500 steps, {models / 'stage1'}"
    assert line.endswith(f"at step 1,000, kept in {folder}; the published model is that of the last step")
    assert json.loads(told(True))["validation"] == {
        "last": measured[2],
        "best": measured[1],
        "checkpoint": str(folder),
    }


@pytest.mark.parametrize("ranks", [0, 4 * len(os.sched_getaffinity(0)) + 1], ids=["none", "too many"])
def test_a_number_of_ranks_that_must_be_a_slip_is_refused(tmp_path: Path, ranks: int) -> None:
    with pytest.raises(UserError, match=f"--ranks {ranks}"):
        training.train_stage(tmp_path, "stage1", ranks, False)
