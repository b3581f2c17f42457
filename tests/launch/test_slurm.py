"""What SLURM's commands print, as they print it, and what they are asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.launch import commands, operations, slurm
from codeio_hpc.launch.jobs import job_prefix
from codeio_hpc.launch.rounds import RoundRecord
from codeio_hpc.launch.run import Run

from .test_submission import run

SQUEUE = """\
101|0|RUNNING|None|{name}
101|1|PENDING|JobArrayTaskLimit|{name}
101|2|PENDING|launch failed requeued held|{name}
101|3|PENDING|JobHeldAdmin|{name}
102|0|PENDING|DependencyNeverSatisfied|{name}
103|N/A|PENDING|job requeued in held state|{name}
104|N/A|PENDING|JobHoldMaxRequeue|{name}
105|N/A|PENDING|Dependency|{name}
"""
"""Of SLURM 22.05; `launch failed` is what a failing Prolog leaves behind."""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[tuple[str, ...]]]:
    """A run with these jobs, and what SLURM is asked."""
    mine, asked = run(tmp_path), list[tuple[str, ...]]()

    def ask(*command: str) -> str:
        asked.append(command)
        return SQUEUE.format(name=f"{job_prefix(mine)}-collect-r0-0")

    monkeypatch.setattr(slurm, "ask", ask)
    return mine, asked


def test_what_is_held_after_a_failed_launch_is_stuck(mine: tuple[Run, object]) -> None:
    assert [(job.job, job.element) for job in slurm.queue() if job.is_stuck] == [
        ("101", "2"),
        ("101", "3"),
        ("102", "0"),
        ("103", None),
        ("104", None),
    ]


def test_cancelling_what_is_stuck_spares_the_other_elements_of_its_array(
    mine: tuple[Run, list[tuple[str, ...]]],
) -> None:
    folder, asked = mine
    operations.cancel(folder, stuck_only=True)
    operations.cancel(folder, stuck_only=False)
    ended = [command[2:] for command in asked if command[0] == "scancel"]
    assert ended == [("101_[2,3]", "102_[0]", "103", "104"), ("101", "102", "103", "104", "105")]


@pytest.mark.parametrize("name", ["SQUEUE_STATES", "SQUEUE_PARTITION", "SCANCEL_STATE", "SINFO_ALL", "SLURM_CLUSTERS"])
def test_what_a_user_set_for_looking_at_the_queue_hides_no_job(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "RUNNING")
    assert f"{name}=RUNNING" not in slurm.ask("env").splitlines()


POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        *(
            (f"sbatch: error: {limit}\nsbatch: error: {POLICY}", slurm.SubmitLimitError)
            for limit in (
                "AssocMaxSubmitJobLimit",
                "AssocGrpSubmitJobsLimit",
                "QOSGrpSubmitJobsLimit",
                "QOSMaxSubmitJobPerUserLimit",
            )
        ),
        (
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            slurm.SchedulerBusyError,
        ),
        ("Slurm backup controller in standby mode", slurm.SchedulerBusyError),
        ("Controller is in standby mode, try a different controller", slurm.SchedulerBusyError),
        ("System submissions disabled", slurm.SchedulerBusyError),
        ("Required partition not available (inactive or drain)", slurm.SchedulerBusyError),
        (f"sbatch: error: AssocMaxWallDurationPerJobLimit\nsbatch: error: {POLICY}", slurm.SchedulerError),
        ("Invalid account or account/partition combination specified", slurm.SchedulerError),
    ],
)
def test_what_passes_is_told_from_what_does_not(says: str, kind: type[Exception], tmp_path: Path) -> None:
    """The words of libslurm 22.05."""
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\ncat >&2 <<END\n{says}\nEND\nexit 1\n", encoding="utf-8")
    (tmp_path / "sbatch").chmod(0o755)
    with pytest.raises(slurm.SchedulerError) as caught:
        slurm.ask(str(tmp_path / "sbatch"))
    assert caught.type is kind


def test_local_work_packing_and_cleaning_are_refused_while_jobs_are_at_work(
    mine: tuple[Run, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = mine
    record = RoundRecord(0, 0, "collect", "s", 1, [[0]], 1.0)
    record.save(folder)
    monkeypatch.setattr(slurm, "available", lambda: True)
    for verb in (operations.pack, operations.clean, lambda run: commands.carry_on(run, None, False, True)):
        with pytest.raises(UserError, match="SLURM jobs 101, 102, 103, 104, 105 of this run are at work"):
            verb(folder)
    record.endings = {}
    record.save(folder)
    assert operations.clean(folder) == {"removed": 0, "bytes": 0}
