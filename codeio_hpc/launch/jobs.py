"""The jobs of a run: what sbatch is told of them, their names, and which of the queue's jobs are theirs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeio_hpc import __version__
from codeio_hpc.config.run import settings_hash
from codeio_hpc.errors import UserError
from codeio_hpc.launch.executors import script_of
from codeio_hpc.launch.packing import split
from codeio_hpc.launch.rounds import ArrayRecord, RoundRecord
from codeio_hpc.launch.run import Run, folder_tag, folders_of
from codeio_hpc.launch.sites.flags import (
    environment_lines,
    interpreter,
    on_host,
    restart_line,
    submitit_parameters,
    task_minutes,
)
from codeio_hpc.launch.slurm import QueuedJob

if TYPE_CHECKING:
    from codeio_hpc.config.site import Site

WARNING_SECONDS = 120
"""How long before the time limit a data task is warned."""

STEER = "steer"
_STEER_MINUTES = 60
"""At least, where the site gives as much; a decision over all shards may take long."""


def array_parameters(
    run: Run, site: Site, record: RoundRecord, first: int, at_once: int, after: str | None
) -> dict[str, Any]:
    """sbatch parameters of an array of data tasks on this site.

    Args:
        first: number of the task that its element 0 does; tells the arrays of a round apart.
        after: job that has to end before.
    """
    parameters = {
        **_parameters(run, site, task_minutes(run.config.launch, site)),
        "job_name": f"{job_prefix(run)}-{record.name}-r{record.round}-{first}",
        "array_parallelism": at_once,
    }
    if record.exclude:
        parameters["exclude"] = ",".join(record.exclude)
    if after is not None:
        parameters["dependency"] = f"afterany:{after}"
    return parameters


def steer_parameters(run: Run, site: Site, record: RoundRecord, others: Sequence[str] = ()) -> dict[str, Any]:
    """sbatch parameters of the job that steers on, after the round's arrays and these other jobs."""
    arrays = ":".join(dict.fromkeys([*(array.job for array in record.arrays), *others]))
    return {
        **_parameters(run, site, min(max(_STEER_MINUTES, run.config.launch.task_time), site.resources.cpu.time)),
        "job_name": f"{job_prefix(run)}-{STEER}-{record.step}-r{record.round}",
        # afterany, not afterok: a requeued element that failed once would block its successor for ever
        "dependency": f"afterany:{arrays}",
    }


def _parameters(run: Run, site: Site, minutes: int) -> dict[str, Any]:
    """Common to both. The batch shell, on the host, hands signals on and acts upon the exit code."""
    parameters = submitit_parameters(site, "cpu")
    additional = {**parameters["additional_parameters"], "signal": f"B:USR1@{WARNING_SECONDS}"}
    return {
        **parameters,
        "time": minutes,
        "setup": [
            # srun of SLURM 22.05 to 23.02 does not inherit --cpus-per-task
            "export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}",
            # submitit would requeue the job itself at the signal that it takes for preemption; one owner is enough
            "export SUBMITIT_PREEMPT_SIGNAL=URG",
            f"export CODEIO_DEADLINE=$(($(date +%s) + {60 * minutes})) CODEIO_WARNING={WARNING_SECONDS}",
            'export CODEIO_LOG="$PWD/${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}'
            '${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}_0_log.out"',
            *environment_lines(site),
            restart_line(site, "cpu"),
            f"source {shlex.quote(str(batch_library()))}",
            f"attempt_starts {__version__} {settings_hash(run.config.identity())[:12]}",
        ],
        "teardown": ["attempt_ends"],
        "additional_parameters": additional,
    }


def batch_library() -> Path:
    """The shell functions that our jobs share with the scripts in slurm/.

    Raises:
        UserError: this installation has no slurm/ folder.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "slurm", Path(sys.prefix) / "share" / "codeio-hpc" / "slurm"):
        if (folder / "lib" / "attempt.sh").exists():
            return folder / "lib" / "attempt.sh"
    raise UserError(
        f"no slurm/lib/attempt.sh beside {package}",
        "jobs source it, and this installation has none",
        "submit from a checkout, or install with: pip install .",
    )


def job_prefix(run: Run) -> str:
    """What the names of all jobs of a run begin with. Another run may have its name: the folder tells them apart."""
    return f"codeio-{run.config.name}-{folder_tag(run)}"


def jobs_at_work(run: Run, queue: Sequence[QueuedJob]) -> list[QueuedJob]:
    """This run's jobs that SLURM has, pending ones too, but not the job that asks.

    Nor, if that steers, later jobs that steer: two that came to wait for the same arrays would each leave it to the
    other.
    """
    prefix = f"{job_prefix(run)}-"
    own = int(os.environ.get("SLURM_JOB_ID", "0"))
    jobs = [job for job in queue if job.name.startswith(prefix) and int(job.job) != own]
    steers = any(int(job.job) == own and is_steering(run, job) for job in queue)
    return [job for job in jobs if not (steers and is_steering(run, job) and int(job.job) > own)]


def is_steering(run: Run, job: QueuedJob) -> bool:
    """Whether it is the job behind a round's arrays that looks at what is published."""
    return job.name.startswith(f"{job_prefix(run)}-{STEER}-")


def elements_at_work(jobs: Sequence[QueuedJob]) -> set[str]:
    """Ids (``<array>_<element>`` or ``<job>``) of those that have started."""
    started = (job for job in jobs if job.state != "PENDING")
    return {job.job if job.element is None else f"{job.job}_{job.element}" for job in started}


def ids_of(jobs: Sequence[QueuedJob]) -> list[str]:
    """Their ids, ascending, each array's once."""
    return sorted({job.job for job in jobs}, key=int)


def elements_of(jobs: Sequence[QueuedJob]) -> list[str]:
    """The same jobs and no other elements of their arrays, as scancel takes them, one word an array: ``101_[2,5]``."""
    elements: dict[str, list[str]] = {}
    for job in jobs:
        elements.setdefault(job.job, []).extend([job.element] if job.element is not None else [])
    return [f"{job}_[{','.join(those)}]" if those else job for job, those in elements.items()]


def scripts_of(run: Run, site: Site, record: RoundRecord) -> list[dict[str, str]]:
    """What submitting a round hands to SLURM, job by job: {"command", "script"}. Ids that only SLURM can give stand as
    ``<array 0>``."""
    jobs = []
    for number, part in enumerate(split(len(record.tasks), site.max_array_size, site.max_tasks_at_once)):
        after = f"<array {part.after}>" if part.after is not None else None
        parameters = array_parameters(run, site, record, part.first, part.at_once, after)
        script = script_of(parameters, interpreter(site, "cpu", folders_of(run)), part.tasks)
        jobs.append({"command": f"sbatch --parsable array-{number}.sh", "script": script})
        record.arrays.append(ArrayRecord(f"<array {number}>", part.first, part.tasks))
    script = script_of(steer_parameters(run, site, record), on_host(), 1)
    return [*jobs, {"command": "sbatch --parsable steer.sh", "script": script}]
