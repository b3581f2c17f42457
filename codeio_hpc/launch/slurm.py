"""SLURM's own commands. Nothing else in the package calls them, submitit's `sbatch` apart; each function is one call.

Every call costs the controller an RPC, and sites forbid programs that ask all the time: no function here is to be
called in a loop, and a command of ours asks once (SchedMD's manual pages of squeue, scontrol, sbatch say the same).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
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
    """This user, or everybody under this account or QOS together, may not have that many jobs (array elements count) in
    the queue at the same time."""


class NoClusterError(SchedulerError):
    """SLURM's commands are not here, or belong to no cluster."""


@dataclass(frozen=True)
class QueuedJob:
    """A line of squeue: a job, or an element of an array."""

    job: str
    """Id of the job; of the whole array, if it is one."""
    element: str | None
    """Its number; None if it is no array."""
    name: str
    state: str
    """PENDING, RUNNING, COMPLETING…"""
    reason: str
    """Why it is pending, e.g. Resources, Dependency, DependencyNeverSatisfied; ``None`` of a running one. Blanks, which
    squeue writes in some, are underscores, as scontrol has them."""

    @property
    def is_stuck(self) -> bool:
        """Whether it will never start by itself."""
        return self.reason in _STUCK


_STUCK = (
    "DependencyNeverSatisfied",
    "JobHeldUser",
    "JobHeldAdmin",
    "JobHoldMaxRequeue",
    "job_requeued_in_held_state",
    "launch_failed_requeued_held",
)
"""Reasons of jobs that wait for a person."""


@dataclass(frozen=True)
class NodeKind:
    """Hardware that some nodes of a partition share."""

    nodes: int
    cpus: int
    memory_mb: int
    gpus: int
    gpu_type: str | None


@dataclass(frozen=True)
class Partition:
    """One partition, as `scontrol show partition` has it, with the hardware of its nodes from `sinfo`."""

    name: str
    is_default: bool
    time_limit: str
    """``infinite``, or d-hh:mm:ss."""
    preempt_mode: str
    """OFF, REQUEUE, CANCEL…: what happens to a job *on* it that has to give way."""
    grace_seconds: int
    tier: int
    accounts: tuple[str, ...] = ()
    """AllowAccounts: whose jobs it takes; empty: everyone's."""
    exclusive: bool = False
    """OverSubscribe=EXCLUSIVE: a job gets whole nodes, whatever it asks for."""
    kinds: tuple[NodeKind, ...] = ()
    """What nodes it has; one kind unless it is mixed."""

    @property
    def nodes(self) -> int:
        """How many it has."""
        return sum(kind.nodes for kind in self.kinds)

    def smallest(self, gpus: bool) -> NodeKind:
        """What each of its nodes with GPUs (without them) has at least, and how many these are; of all its nodes if
        there are none such."""
        kinds = [kind for kind in self.kinds if bool(kind.gpus) == gpus] or self.kinds
        return NodeKind(
            nodes=sum(kind.nodes for kind in kinds),
            cpus=min(kind.cpus for kind in kinds),
            memory_mb=min(kind.memory_mb for kind in kinds),
            gpus=min(kind.gpus for kind in kinds),
            gpu_type=kinds[0].gpu_type,
        )

    @property
    def minutes(self) -> int | None:
        """Its time limit; None if it has none."""
        found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", self.time_limit)
        if not found:
            return None
        days, hours, minutes, _ = (int(part or 0) for part in found.groups())
        return days * 1440 + hours * 60 + minutes


@dataclass(frozen=True)
class Association:
    """What accounting allows this user under one account; None where there is no limit."""

    account: str
    max_jobs: int | None
    """Running at a time."""
    max_submitted: int | None
    """Running and pending; each element of an array counts."""


def available() -> bool:
    """Whether SLURM's commands are installed here."""
    return shutil.which("sbatch") is not None


def ask(
    *command: str, folder: Path | None = None, timeout: float | None = None, variables: Mapping[str, str] | None = None
) -> str:
    """Standard output of one of SLURM's commands, called in ``folder`` with further environment ``variables``.

    Raises:
        SchedulerError: it is not installed, failed, or gave no answer within ``timeout`` seconds.
    """
    timeout = timeout or _TIMEOUT
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=_environment() | dict(variables or {}),
        )
    except FileNotFoundError:
        raise NoClusterError(f"{command[0]} is not installed here: SLURM's commands are on login nodes") from None
    except subprocess.TimeoutExpired:
        raise SchedulerBusyError(f"{command[0]} gave no answer within {timeout:g} s; try again later") from None
    if "Could not establish a configuration source" in done.stderr:
        raise NoClusterError("SLURM is installed here, but this host belongs to no cluster: there is no slurm.conf")
    if done.returncode != 0:
        said = f"{command[0]}: {_said(done.stderr) or f'exit code {done.returncode}'}"
        raise _error_for(done.stderr)(said)
    return done.stdout


_BUSY = re.compile(
    r"timed out|temporarily unable|Unable to contact slurm controller|communications? (connection )?failure|"
    r"Zero Bytes were transmitted|Connection refused|Rate limit|try again|standby mode|submissions disabled|"
    r"partition not available \(inactive or drain\)",
    re.IGNORECASE,
)
"""What SLURM's errors say that pass: no answer, a controller that is being replaced, maintenance."""


def _error_for(text: str) -> type[SchedulerError]:
    if re.search(r"(Max|Grp)SubmitJobs?", text):
        return SubmitLimitError
    return SchedulerBusyError if _BUSY.search(text) else SchedulerError


def _environment() -> dict[str, str]:
    """This process' own, without what would change the meaning of a command: inside a job srun would start a step of
    that, ``SBATCH_ACCOUNT`` hides a missing account, ``SQUEUE_STATES`` jobs of a run, which would be submitted again,
    ``SCANCEL_STATE`` spares some, ``SLURM_CLUSTERS`` asks another cluster."""
    inherited = {name: value for name, value in os.environ.items() if not _shapes_commands(name)}
    return {**inherited, "LC_ALL": "C.UTF-8"}


def _shapes_commands(name: str) -> bool:
    """Inherited ``SLURM_CPU_BIND`` made jobs three times slower; ``SLURM_CONF`` says which cluster this is."""
    clients = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SINFO_")
    own = ("SUBMITIT_", "CODEIO_DEADLINE", "CODEIO_WARN", "CODEIO_LOG", "CODEIO_BEGAN", "CODEIO_QUEUED")
    return name.startswith((*clients, *own)) and name != "SLURM_CONF"


def _said(text: str) -> str:
    lines = [re.sub(r"^(\w+: )?(error: )?", "", line).strip() for line in text.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line))


def queue() -> list[QueuedJob]:
    """This user's jobs that SLURM still has, running or not, on hidden partitions too.

    An element a line: of pending ones squeue would make one line, with the reasons of all of them.
    """
    return _queue_lines(ask("squeue", "--me", "--all", "--array", "--noheader", "--format", "%F|%K|%T|%r|%j"))


def _queue_lines(text: str) -> list[QueuedJob]:
    jobs = []
    for line in text.splitlines():
        job, element, state, reason, name = line.split("|", 4)
        jobs.append(QueuedJob(job, None if element == "N/A" else element, name, state, reason.replace(" ", "_")))
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


def submit_as_typed(folder: Path, words: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    """What a person does who types ``sbatch WORDS`` in that folder; the job's id.

    Raises:
        SchedulerError: SLURM did not take it.
    """
    return ask("sbatch", "--parsable", *words, folder=folder, variables=variables).strip().partition(";")[0]


_in_doubt: set[str] = set()
"""Names of jobs that SLURM may have taken."""


def cancel(jobs: Sequence[str]) -> None:
    """End jobs; those that have ended already are no error."""
    if jobs:
        ask("scancel", "--quiet", *jobs)


def requeue(job: str) -> None:
    """End a running job, to be started anew."""
    ask("scontrol", "requeue", job)


def configuration() -> dict[str, str]:
    """`scontrol show config`: names of slurm.conf and their values, as printed ("30 sec", "(null)")."""
    return settings_in(ask("scontrol", "show", "config"))


def settings_in(text: str) -> dict[str, str]:
    """Names and values of what `scontrol show config` prints."""
    return dict(re.findall(r"^(\S+)\s*= ?(.*?)\s*$", text, flags=re.MULTILINE))


def partitions() -> list[Partition]:
    """Every partition that this user sees. Two calls: of scontrol and of sinfo."""
    hardware = ask("sinfo", "--exact", "--noheader", "--format", "%R|%D|%c|%m|%G")
    return partitions_in(ask("scontrol", "--oneliner", "show", "partition"), hardware)


def partitions_in(described: str, hardware: str) -> list[Partition]:
    """The partitions that `scontrol --oneliner show partition` describes, on nodes that `sinfo --exact` lists."""
    kinds: dict[str, list[NodeKind]] = {}
    for line in hardware.splitlines():
        name, nodes, cpus, memory, gres = line.split("|", 4)
        if int(nodes):
            kinds.setdefault(name, []).append(NodeKind(int(nodes), int(cpus), int(memory), *_gpus(gres)))
    found = []
    for line in described.splitlines():
        facts = dict(re.findall(r"(\w+)=(\S*)", line))
        if "PartitionName" not in facts:  # "No partitions in the system"
            continue
        grace = facts.get("GraceTime", "0")
        accounts = facts.get("AllowAccounts", "ALL")
        found.append(
            Partition(
                name=facts["PartitionName"],
                is_default=facts.get("Default") == "YES",
                time_limit=facts.get("MaxTime", "UNLIMITED").replace("UNLIMITED", "infinite"),
                preempt_mode=facts.get("PreemptMode", "OFF"),
                grace_seconds=int(grace) if grace.isdigit() else 0,
                tier=int(facts.get("PriorityTier", "1")),
                accounts=() if accounts in ("ALL", "(null)") else tuple(accounts.split(",")),
                exclusive=facts.get("OverSubscribe") == "EXCLUSIVE",
                kinds=tuple(kinds.get(facts["PartitionName"], ())),
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


def associations(user: str, cluster: str | None) -> list[Association]:
    """What accounting says of a user on the cluster of that name; it may keep the books of several.

    Raises:
        SchedulerError: there is no accounting, or users may not ask it.
    """
    whose = [f"user={user}", *([f"cluster={cluster}"] if cluster else [])]
    text = ask("sacctmgr", "--noheader", "--parsable2", "show", "assoc", *whose, "format=account,maxjobs,maxsubmit")
    found = []
    for line in text.splitlines():
        account, jobs, submitted = line.split("|")
        found.append(Association(account, *(int(limit) if limit.isdigit() else None for limit in (jobs, submitted))))
    return found


def has_pyxis() -> bool:
    """Whether srun takes container images by itself (NVIDIA's plugin). Costs the controller nothing."""
    return "--container-image" in ask("srun", "--help")


def run_on_node(flags: Sequence[str], command: Sequence[str], seconds: int) -> str:
    """What a command prints on a compute node: one job, its output waited for.

    Raises:
        SchedulerError: no node was free at once and for a minute after, or the command failed or took too long.
    """
    return ask("srun", "--immediate=60", "--quiet", *flags, *command, timeout=60 + seconds)
