"""SLURM's own commands. Nothing else in the package calls them, submitit's `sbatch` apart; each function is one call.

Every call costs the controller an RPC, and sites forbid programs that ask all the time: no function here is to be
called in a loop, and a command of ours asks once (SchedMD's manual pages of squeue, scontrol, sbatch say the same).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codeio_hpc.errors import RunFailedError

_TIMEOUT = 60
"""Seconds. A client whose controller does not answer gives up by itself after MessageTimeout (10 s) several times."""


class SchedulerError(RunFailedError):
    """SLURM did not answer, or refused; the message is its own."""


class SchedulerBusyError(SchedulerError):
    """SLURM takes nothing now, but may later: it did not answer, or too many jobs are in its queue."""


class SubmitLimitError(SchedulerBusyError):
    """This user may not have that many jobs (array elements count) in the queue at the same time."""


@dataclass(frozen=True)
class QueuedJob:
    """A line of squeue: a job, a running element of an array, or all of its elements that are still to start."""

    job: str
    """Id of the job; of the whole array, if it is one."""
    element: str | None
    """``7``, or ``8-59`` of what has not started; None if it is no array."""
    name: str
    state: str
    """PENDING, RUNNING, COMPLETING…"""
    reason: str
    """Why it is pending, e.g. Resources, Dependency, DependencyNeverSatisfied; ``None`` of a running one."""

    @property
    def is_stuck(self) -> bool:
        """Whether it will never start by itself."""
        return self.reason in ("DependencyNeverSatisfied", "JobHeldUser", "JobHeldAdmin", "launch_failed_requeued_held")


@dataclass(frozen=True)
class Partition:
    """One partition, as `scontrol show partition` has it, with the hardware of its nodes from `sinfo`."""

    name: str
    is_default: bool
    nodes: int
    cpus: int
    """Of its smallest node."""
    memory_mb: int
    """Of its smallest node."""
    gpus: int
    """Of its smallest node; 0 where a node has none."""
    gpu_type: str | None
    time_limit: str
    """``infinite``, or d-hh:mm:ss."""
    preempt_mode: str
    """OFF, REQUEUE, CANCEL…: what happens to a job *on* it that has to give way."""
    grace_seconds: int
    tier: int


def available() -> bool:
    """Whether SLURM's commands are installed here."""
    return shutil.which("sbatch") is not None


def ask(*command: str, folder: Path | None = None) -> str:
    """Standard output of one of SLURM's commands, called in ``folder``.

    Raises:
        SchedulerError: it is not installed, failed, or gave no answer within a minute.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError:
        raise SchedulerError(f"{command[0]} is not installed here: SLURM's commands are on login nodes") from None
    except subprocess.TimeoutExpired:
        raise SchedulerBusyError(f"{command[0]} gave no answer within {_TIMEOUT} s; try again later") from None
    if done.returncode != 0:
        said = f"{command[0]}: {_said(done.stderr) or f'exit code {done.returncode}'}"
        raise _error_for(done.stderr)(said)
    return done.stdout


_BUSY = re.compile(
    r"timed out|temporarily unable|Unable to contact slurm controller|communications? (connection )?failure|"
    r"Zero Bytes were transmitted|Connection refused|Rate limit|try again",
    re.IGNORECASE,
)


def _error_for(text: str) -> type[SchedulerError]:
    if re.search(r"MaxSubmitJobs?", text):
        return SubmitLimitError
    return SchedulerBusyError if _BUSY.search(text) else SchedulerError


def _said(text: str) -> str:
    lines = [re.sub(r"^(\w+: )?(error: )?", "", line).strip() for line in text.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line))


def queue() -> list[QueuedJob]:
    """This user's jobs that SLURM still has, running or not."""
    return _queue_lines(ask("squeue", "--me", "--noheader", "--format", "%F|%K|%T|%r|%j"))


def _queue_lines(text: str) -> list[QueuedJob]:
    jobs = []
    for line in text.splitlines():
        job, element, state, reason, name = line.split("|", 4)
        element = element.partition("%")[0]
        jobs.append(QueuedJob(job, None if element == "N/A" else element, name, state, reason))
    return jobs


def submit(folder: Path, script: str, name: str) -> str:
    """Submit a batch script of that folder, which is where the job then runs; the job's id.

    Where SLURM may have taken a script though no answer came, the next call for a job of this name, which must be
    unique, looks for it in the queue first.

    Raises:
        SubmitLimitError: too many jobs of this user are in the queue.
        SchedulerBusyError: SLURM did not take it, and may later.
        SchedulerError: SLURM refused it for good.
    """
    if name in _in_doubt:
        taken = [job.job for job in queue() if job.name == name]
        _in_doubt.discard(name)
        if taken:
            return taken[0]
    try:
        return ask("sbatch", "--parsable", script, folder=folder).strip().partition(";")[0]
    except SubmitLimitError:
        raise
    except SchedulerBusyError:
        _in_doubt.add(name)
        raise


_in_doubt: set[str] = set()
"""Names of jobs that SLURM may have taken."""


def cancel(jobs: Sequence[str]) -> None:
    """End jobs; those that have ended already are no error."""
    if jobs:
        ask("scancel", "--quiet", *jobs)


def configuration() -> dict[str, str]:
    """`scontrol show config`: names of slurm.conf and their values, as printed ("30 sec", "(null)")."""
    text = ask("scontrol", "show", "config")
    return dict(re.findall(r"^(\S+)\s*= ?(.*?)\s*$", text, flags=re.MULTILINE))


def partitions() -> list[Partition]:
    """Every partition that this user sees. Two calls: of scontrol and of sinfo."""
    hardware: dict[str, list[tuple[int, int, int, int, str | None]]] = {}
    for line in ask("sinfo", "--noheader", "--format", "%R|%D|%c|%m|%G").splitlines():
        name, nodes, cpus, memory, gres = line.split("|", 4)
        gpus, gpu_type = _gpus(gres)
        numbers = (int(nodes), int(cpus.rstrip("+")), int(memory.rstrip("+")), gpus, gpu_type)
        hardware.setdefault(name, []).append(numbers)
    found = []
    for line in ask("scontrol", "--oneliner", "show", "partition").splitlines():
        facts = dict(re.findall(r"(\w+)=(\S*)", line))
        rows = hardware.get(facts["PartitionName"], [(0, 0, 0, 0, None)])
        grace = facts.get("GraceTime", "0")
        found.append(
            Partition(
                name=facts["PartitionName"],
                is_default=facts.get("Default") == "YES",
                nodes=sum(row[0] for row in rows),
                cpus=min(row[1] for row in rows),
                memory_mb=min(row[2] for row in rows),
                gpus=min(row[3] for row in rows),
                gpu_type=rows[0][4],
                time_limit=facts.get("MaxTime", "UNLIMITED").replace("UNLIMITED", "infinite"),
                preempt_mode=facts.get("PreemptMode", "OFF"),
                grace_seconds=int(grace) if grace.isdigit() else 0,
                tier=int(facts.get("PriorityTier", "1")),
            )
        )
    return found


def _gpus(gres: str) -> tuple[int, str | None]:
    """``gpu:h100:8(S:0-1),nvme:1`` -> (8, "h100")"""
    found = re.search(r"gpu:(?:([^:,(]+):)?(\d+)", gres)
    return (int(found[2]), found[1]) if found else (0, None)


def try_submission(flags: Sequence[str]) -> str | None:
    """Why SLURM would refuse a job with these flags (`sbatch --test-only`); None if it would take it."""
    try:
        ask("sbatch", "--test-only", *flags, "--wrap=true")
    except SchedulerError as error:
        return str(error)
    return None
