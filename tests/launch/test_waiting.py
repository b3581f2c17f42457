"""Waiting for a build that SLURM carries out."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeio_hpc.launch import rounds, waiting
from codeio_hpc.launch.build import BuildFailedError
from codeio_hpc.launch.plan import steps
from codeio_hpc.launch.rounds import RoundRecord, read_rounds
from codeio_hpc.launch.run import Run
from codeio_hpc.launch.waiting import wait_for_build
from codeio_hpc.launch.worker import Task, work


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Those that were made; nobody sleeps, and nobody has the patience for more than a hundred."""
    made: list[float] = []

    def sleep(seconds: float) -> None:
        made.append(seconds)
        assert len(made) < 100, "it waits for ever"

    monkeypatch.setattr(waiting.time, "sleep", sleep)
    return made


def test_that_the_build_has_stopped_is_seen_though_all_files_are_there(sent_out: Run, pauses: list[float]) -> None:
    """One is damaged, and nobody makes it again."""
    work(Task(sent_out.folder, 0, "step0-round000", 0, (0, 1)))
    step = steps(sent_out)[0]
    step.places[0].sketch_path(1).write_text('{"inpu', encoding="utf-8")
    assert step.missing(sent_out) == [1]
    record = read_rounds(sent_out)[-1]
    record.failed = "the steering job gave up"
    record.save(sent_out)
    with pytest.raises(BuildFailedError, match="the steering job gave up"):
        wait_for_build(sent_out, quiet=True)


def test_looks_become_rarer_and_read_the_latest_round_only(
    sent_out: Run, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lists folders with files of all shards, and records of rounds name all shards."""
    RoundRecord(1, 0, "split", "here", 2, [[0, 1]], 1.0).save(sent_out)
    read: list[str] = []
    real = rounds._read_round

    def reading(path: Path) -> RoundRecord:
        read.append(path.parent.name)
        return real(path)

    monkeypatch.setattr(rounds, "_read_round", reading)
    with pytest.raises(AssertionError, match="it waits for ever"):
        wait_for_build(sent_out, quiet=True)
    assert pauses[0] == 2 and pauses[-1] == 30 and sum(pauses[:8]) < 30
    assert set(read) == {"step1-round000"}
