"""The state of a run while SLURM works on it; SLURM's answers are made up."""

from __future__ import annotations

import re
import time

import pytest

from codeio_hpc.config.site import Site
from codeio_hpc.launch import commands, slurm, submission
from codeio_hpc.launch.attempts import start_attempt
from codeio_hpc.launch.jobs import job_prefix
from codeio_hpc.launch.run import Run
from codeio_hpc.launch.slurm import QueuedJob
from codeio_hpc.launch.status import status_text


def start_task(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as job:
        job.setenv("SLURM_ARRAY_JOB_ID", "10")
        job.setenv("SLURM_ARRAY_TASK_ID", "1")
        start_attempt(run.folder, "step0-round000", 1, 0)


def pending(run: Run) -> list[QueuedJob]:
    return [QueuedJob("10", element, f"{job_prefix(run)}-a", "PENDING", "Resources") for element in ("0", "1")]


def test_what_is_at_work_and_what_has_gone_is_told_apart(sent_out: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for queue, line in (
        (pending(sent_out), r"at work: collect-sketch, round 0 on site \w+: \d+ tasks \(2 pending\)"),
        ([], r"sent out last: collect-sketch, round 0 .*: 0 of \d+ shards; none of its tasks is in the queue any more"),
    ):
        monkeypatch.setattr(slurm, "queue", lambda queue=queue: queue)
        assert re.search(line, status_text(next(commands.statuses(sent_out.folder, None))))


def test_a_task_that_started_after_slurm_was_asked_is_running(sent_out: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--watch asks once a minute at most, and looks at the files every ten seconds."""
    monkeypatch.setattr(slurm, "queue", lambda: pending(sent_out))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    statuses = commands.statuses(sent_out.folder, 1.0)
    assert next(statuses)["attempts"] == {}
    start_task(sent_out, monkeypatch)
    assert next(statuses)["attempts"] == {"running": 1}
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 61)  # asked again, SLURM still does not know of it
    status = next(statuses)
    assert status["attempts"] == {"node": 1} and len(status["troubles"]) == 1


def test_so_is_one_that_started_while_a_command_submitted(sent_out: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_on(run: Run, site: Site, queue: object, quiet: bool, asked: float) -> tuple[list[QueuedJob], None]:
        start_task(run, monkeypatch)
        return pending(run), None

    monkeypatch.setattr(slurm, "queue", lambda: pending(sent_out))
    monkeypatch.setattr(submission, "carry_on", carry_on)
    site = Site.model_construct(name="here")
    assert commands.resume(sent_out.folder, site, False, True)["attempts"] == {"running": 1}


def test_rows_of_tokens_are_said_to_be_packed_sequences(sent_out: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "queue", lambda: [])
    status = next(commands.statuses(sent_out.folder, None))
    stage = {"stage": "tokenise", "shards": 1, "done": 1, "rows": 17, "rejected": 0, "exact": True}
    text = status_text(
        {**status, "files": 99, "stages": [{**stage, "stage": "import", "rows": 50}, {**stage, "rejected": 50}]}
    )
    assert text.count("WARNING") == 1 and "WARNING: tokenise rejected 50 of 50; why: codeio rejected" in text
    assert re.search(r"tokenise +1/1 +17 +0  rows are packed sequences\n", status_text({**status, "stages": [stage]}))
