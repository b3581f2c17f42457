"""What is left of a round once it is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeio_hpc.config import RunConfig, parse
from codeio_hpc.launch.rounds import ArrayRecord, RoundRecord, close_rounds, round_folder
from codeio_hpc.launch.run import Run


def a_run(folder: Path) -> Run:
    config = parse(RunConfig, {"name": "mine", "sources": [{"name": "std", "stdlib": True}]}, "c.yaml")
    return Run(folder, config, 2)


def sent(run: Run, number: int = 0, tasks: int = 2) -> RoundRecord:
    """A round of one array, job 10, and a job that steers on, 11; as SLURM and submitit leave it."""
    record = RoundRecord(0, number, "collect", "here", tasks, [[task] for task in range(tasks)], 1.0)
    record.arrays, record.steer = [ArrayRecord("10", 0, tasks)], "11"
    record.save(run)
    for name in (*(f"10_{task}" for task in range(tasks)), "11"):
        (round_folder(run, record) / f"{name}_submitted.pkl").touch()
    for name in ("10", "11"):
        (round_folder(run, record) / f"{name}_submission.sh").touch()
    return record


@pytest.mark.parametrize("closes", ["11", "12", None])
def test_the_job_that_steers_keeps_what_slurm_starts_it_again_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closes: str | None
) -> None:
    """It closes the rounds, and may then be preempted, or run out of time while it waits for room in the queue."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if closes is not None:
        monkeypatch.setenv("SLURM_JOB_ID", closes)
    run = a_run(tmp_path)
    first = sent(run)
    close_rounds(run)
    left = {path.name for path in round_folder(run, first).iterdir()}
    assert left == {"round.json", "11_submitted.pkl", "11_submission.sh"}
    second = sent(run, 1)
    second.steer = None  # killed before it could submit the next one
    second.save(run)
    close_rounds(run)
    left = {path.name for path in round_folder(run, first).iterdir()}
    assert ("11_submitted.pkl" in left) == (closes == "11")
