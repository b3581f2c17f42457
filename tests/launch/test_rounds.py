"""What is left of a round once it is over."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from codeio_hpc.config import RunConfig, parse
from codeio_hpc.launch.attempts import start_attempt
from codeio_hpc.launch.operations import clean
from codeio_hpc.launch.rounds import (
    ArrayRecord,
    RoundRecord,
    close_rounds,
    endings,
    read_rounds,
    round_folder,
)
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


def test_records_and_logs_of_success_are_packed_and_logs_of_failure_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first to do it is killed before it has written down how they ended."""
    run = a_run(tmp_path)
    record = sent(run, tasks=3)
    folder = round_folder(run, record)
    for task, cause in enumerate(["done", "error", "done"]):
        (folder / f"10_{task}_0_log.out").write_text(f"log {task}", encoding="utf-8")
        start_attempt(run.folder, record.work, task, 0).finish(run.folder, cause)
    start_attempt(run.folder, "stage1-job7", 0).finish(run.folder, "done")

    def killed(*of: object) -> None:
        raise SystemExit

    with monkeypatch.context() as context, pytest.raises(SystemExit):
        context.setattr(RoundRecord, "save", killed)
        close_rounds(run)
    for _ in range(2):
        close_rounds(run)
        left = {path.name for path in folder.iterdir()} - {"11_submitted.pkl", "11_submission.sh"}
        assert left == {"round.json", "10_1_0_log.out", "packed.zip"}
        assert [path.name for path in (tmp_path / "attempts").iterdir()] == ["stage1-job7-task00000-start0.json"]
        [closed] = read_rounds(run)
        assert closed.endings == {"step0-round000-task00001-start0": ["error", ""]}
        assert [each.ending.cause for each in endings(run, set())] == ["done", "done", "error", "done"]


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


def test_clean_removes_all_of_submitit_s_files_and_what_a_killed_submission_left(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    folder = round_folder(run, sent(run))
    close_rounds(run)
    for name in ("0f1e.sh", "0f1e.pkl"):
        (folder / name).touch()
    clean(run)
    assert [path.name for path in folder.iterdir()] == ["round.json"]


def test_a_copy_of_a_round_s_folder_is_no_round(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    shutil.copytree(round_folder(run, sent(run)), run.folder / "logs" / "step0-round000.bak")
    assert len(read_rounds(run)) == 1
