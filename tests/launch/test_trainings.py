"""What `codeio status` says of trainings, from the files of the run alone."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from codeio_hpc.launch import commands, slurm
from codeio_hpc.launch.attempts import OF_NO_SHARD, Attempt, Failure, start_attempt
from codeio_hpc.launch.causes import judge
from codeio_hpc.launch.run import Run
from codeio_hpc.launch.status import status_text
from codeio_hpc.launch.trainings import training_lines, trainings

_NOBODY = 2**22 + 1
"""More than any process's number (proc(5), pid_max)."""


def begin(run: Path, stage: str, done: int, checkpoint: int | None = None) -> Attempt:
    """A local training of 60 steps of 2 seconds each, whose attempt is this process."""
    (run / "train" / stage).mkdir(parents=True)
    lines = [{"step": n + 1, "loss": 2 - n / 100, "seconds": 2.0, "total_steps": 60} for n in range(done)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "train" / stage / "metrics.jsonl").write_text(text + '{"step": 9', encoding="utf-8")
    if checkpoint is not None:
        for step, marker in ((checkpoint, "COMPLETE.json"), (checkpoint + 5, "rank-0.pt")):
            folder = run / "checkpoints" / stage / f"step-{step:06d}"
            folder.mkdir(parents=True)
            (folder / marker).write_text('{"ranks": 2}', encoding="utf-8")
    return start_attempt(run, f"{stage}-here000", 0)


def lines_of(run: Path) -> list[str]:
    return list(training_lines(trainings(run, list(judge(run, set(), {}))), "R"))


def test_a_training_at_work_has_its_step_loss_checkpoint_and_the_time_left(tmp_path: Path) -> None:
    begin(tmp_path, "stage1", 23, checkpoint=20)
    begin(tmp_path, "stage2", 0)
    assert lines_of(tmp_path) == [
        "  training stage1: step 23 of 60, loss 1.7800, checkpoint of step 20, 1:14 left",
        "  training stage2: no step yet, no checkpoint yet, running",
    ]


def test_one_that_ended_too_early_says_when_why_and_how_to_go_on(tmp_path: Path) -> None:
    attempt = begin(tmp_path, "stage1", 23, checkpoint=20)
    attempt.finish(tmp_path, "interrupted")
    assert lines_of(tmp_path) == [
        f"  training stage1: step 23 of 60, loss 1.7800, checkpoint of step 20, ended {attempt.end}: interrupted",
        "    go on with: codeio train R --stage stage1 --ranks 2",
    ]
    attempt.finish(tmp_path, "configuration")
    assert lines_of(tmp_path)[1] == "    once that is mended: codeio train R --stage stage1 --ranks 2"
    attempt.job = "17"
    attempt.finish(tmp_path, "interrupted")
    assert lines_of(tmp_path)[1] == "    go on with: sbatch slurm/stage1.sh R"


def test_a_finished_one_says_when(tmp_path: Path) -> None:
    attempt = begin(tmp_path, "rft", 60, checkpoint=60)
    attempt.finish(tmp_path, "done")
    (tmp_path / "models" / "rft").mkdir(parents=True)
    (tmp_path / "models" / "rft" / "training.json").write_text('{"steps": 60}', encoding="utf-8")
    assert lines_of(tmp_path) == [f"  training rft: step 60 of 60, loss 1.4100, finished {attempt.end}"]
    [told] = trainings(tmp_path, list(judge(tmp_path, set(), {})))
    assert (told["state"], told["step"], told["steps"], told["checkpoint"]) == ("finished", 60, 60, 60)


@pytest.mark.parametrize("step", [None, 0])
def test_what_ran_on_this_host_outside_slurm_is_not_running_once_its_process_is_gone(
    tmp_path: Path, step: int | None
) -> None:
    attempt = start_attempt(tmp_path, "stage1-here000", 0, step)
    assert (attempt.host, attempt.pid) == (socket.gethostname(), os.getpid())
    assert [each.ending.cause for each in judge(tmp_path, set(), {})] == ["running"]
    attempt.pid = _NOBODY
    attempt.save(tmp_path)
    assert [each.ending.cause for each in judge(tmp_path, set(), {})] == ["killed"]
    attempt.pid, attempt.start = os.getpid(), "2001-01-01T00:00:00Z"  # another process has got its number
    attempt.save(tmp_path)
    assert [each.ending.cause for each in judge(tmp_path, set(), {})] == ["killed"]


def test_status_names_no_log_that_is_not_there_and_no_reason_that_nobody_wrote(
    sent_out: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "queue", lambda: [])
    attempt = begin(sent_out.folder, "stage1", 3)
    attempt.finish(sent_out.folder, "ranks lost")
    text = status_text(next(commands.statuses(sent_out.folder, None)))
    assert "codeio logs" not in text
    assert f"ranks lost: {attempt.name} on {attempt.host}\n" in text
    attempt.failures.append(Failure("stage1", OF_NO_SHARD, "rank 1 does not answer"))
    attempt.log = "logs/7.out"
    attempt.save(sent_out.folder)
    status = next(commands.statuses(sent_out.folder, None))
    assert [each["stage"] for each in status["trainings"]] == ["stage1"]
    text = status_text({**status, "state": "complete"})
    assert f"run two: dataset complete, training of stage1 not  ({sent_out.folder})" in text
    assert f"on {attempt.host}: rank 1 does not answer\n" in text
    assert f"codeio logs {sent_out.folder}" in text
