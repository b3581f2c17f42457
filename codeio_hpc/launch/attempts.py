"""Attempt records: one file a start of a task, with what it did and how it ended.

Everything that varies from run to run (times, hosts, isolation level used) lives here and never in a table. A record
has one writer. Its name tells which start of which task it is, so a newer start of the same task is seen by its file.
"""

from __future__ import annotations

import calendar
import json
import os
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codeio_hpc.launch.packed import packed_files, packed_names
from codeio_hpc.tables.files import publish_file


@dataclass
class StageTotals:
    """What an attempt did in one stage."""

    shards: int = 0
    """Published by this attempt."""
    lost: int = 0
    """Finished, but another copy of the task had published them meanwhile."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """CPU time of the worker and of its sandboxes."""
    longest: float = 0.0
    """Seconds of the slowest shard."""
    rows_in: int = 0
    rows_out: int = 0
    rejected: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, more: StageTotals) -> None:
        """Add those of one more shard, or of another attempt."""
        for name in ("shards", "lost", "seconds", "cpu_seconds", "rows_in", "rows_out", "rejected"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        self.longest = max(self.longest, more.longest)
        for name, count in more.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


@dataclass
class Failure:
    """A shard that could not be finished because the code raised."""

    stage: str
    shard: int
    """:data:`OF_NO_SHARD` of training, and of a wrong setting, which would end any other shard in the same way."""
    error: str


OF_NO_SHARD = -1

MOMENTS = {
    "queued": "SLURM took the job into its queue, at first or again (whole seconds)",
    "script": "its batch script began",
    "process": "rank 0's process began",
    "met": "all ranks were there, with torch loaded",
    "loaded": "engine, data, model and checkpoint were loaded, and what is proven before training was proven",
    "step": "the first optimiser step was done",
    "told": "rank 0 heard the first signal to stop",
}
"""Of an attempt at training, in their order; one that is not there was not reached, or not outside SLURM."""

_TIME = "%Y-%m-%dT%H:%M:%SZ"
"""UTC."""

_PAUSE = 1.0
_SHARE = 20
"""A record is published every second at most, and so rarely that it takes a twentieth of the time at most."""

_SUCCESSORS = 5
"""How many restarts further a successor is looked for: SLURM holds a job that failed to launch five times in a row
(slurm.conf(5), MaxBatchRequeue), so no more than that go by without a record."""


@dataclass
class Attempt:
    """One start of a task."""

    work: str
    """What the task belongs to: ``step2-round0``, or a stage of training."""
    task: int
    restart: int
    """How often SLURM has requeued the job before this start."""
    step: int | None
    """None for training."""
    host: str
    pid: int
    job: str | None
    """SLURM job id, with the array element where there is one."""
    log: str | None
    """Where its output is, with that of the task's other attempts; relative to the run folder if it is in it."""
    start: str
    end: str | None = None
    saved: float = 0.0
    """When the record was last published, seconds since the epoch."""
    cpus: int = 1
    gpus: int = 0
    """What the task has been given."""
    cause: str | None = None
    """As the attempt itself knows it, see :mod:`codeio_hpc.launch.causes`; None while it runs, or when it was killed
    without warning."""
    signal: str | None = None
    """The signal that told it to stop."""
    shard: int | None = None
    """The one at hand, or the last one."""
    isolation: str | None = None
    moments: dict[str, float] = field(default_factory=dict)
    """Of training: when it was where, in seconds since the epoch; see :data:`MOMENTS`."""
    stages: dict[str, StageTotals] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    damaged: list[Failure] = field(default_factory=list)
    """Stages that found their input shard damaged; it was removed, to be made again. No failure of the stage."""

    def __post_init__(self) -> None:
        self._due, self._failed = 0.0, 0

    @property
    def name(self) -> str:
        """Of the record's file."""
        return attempt_name(self.work, self.task, self.restart)

    @property
    def began(self) -> float:
        """Its start, in whole seconds since the epoch."""
        return calendar.timegm(time.strptime(self.start, _TIME))

    def totals(self, stage: str) -> StageTotals:
        """Those of a stage, to be added to."""
        return self.stages.setdefault(stage, StageTotals())

    def is_superseded(self, run: Path) -> bool:
        """Whether SLURM has started the task anew, or its round is over and its record packed. When a node's slurmd
        dies, its tasks run on beside those copies."""
        later = range(self.restart + 1, self.restart + 1 + _SUCCESSORS)
        anew = any(record_path(run, attempt_name(self.work, self.task, restart)).exists() for restart in later)
        return anew or not record_path(run, self.name).exists()

    def reach(self, moment: str, when: float | None = None) -> None:
        """Note the time of one of :data:`MOMENTS`, now or ``when``; the first time counts."""
        if moment not in self.moments:  # replaced, not changed: another thread may be writing it down
            self.moments = {**self.moments, moment: time.time() if when is None else when}

    def save(self, run: Path) -> None:
        """Publish the record as it stands."""
        began, self.saved = time.monotonic(), time.time()
        publish_file(record_path(run, self.name), json.dumps(asdict(self), sort_keys=True).encode("utf-8"))
        ended = time.monotonic()
        self._due = ended + max(_PAUSE, _SHARE * (ended - began))
        self._failed = len(self.failures) + len(self.damaged)

    def keep(self, run: Path) -> None:
        """Publish the record if something failed since the last time, or that was a while ago."""
        if len(self.failures) + len(self.damaged) > self._failed or time.monotonic() >= self._due:
            self.save(run)

    def finish(self, run: Path, cause: str) -> None:
        """Publish the record with its end."""
        self.end, self.cause = _now(), cause
        self.save(run)


def attempt_name(work: str, task: int, restart: int) -> str:
    """Name of the record of that start of that task."""
    return f"{work}-task{task:05d}-start{restart}"


def record_path(run: Path, name: str) -> Path:
    """Where the record of an attempt is until its round is over."""
    return run / "attempts" / f"{name}.json"


def start_attempt(run: Path, work: str, task: int, step: int | None = None) -> Attempt:
    """Begin, and publish, the record of a new attempt."""
    attempt = new_attempt(run, work, task, step)
    attempt.save(run)
    return attempt


def training_name(run: Path, stage: str) -> str:
    """What the attempts of one job, or of one start outside SLURM, at a training stage are recorded under."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is not None:
        return f"{stage}-job{job}"
    loose = {f"attempts/{path.name}" for path in (run / "attempts").glob("*.json")}
    names = {name.partition("-task")[0] for name in loose | packed_names(run)}
    return f"{stage}-here{sum(name.startswith(f'attempts/{stage}-here') for name in names):03d}"


def new_attempt(run: Path, work: str, task: int, step: int | None = None) -> Attempt:
    """The record of an attempt that begins now, from what SLURM and the batch shell say; not published."""
    return Attempt(
        work=work,
        task=task,
        restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        step=step,
        host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        pid=os.getpid(),
        job=_job_id(),
        log=_log_within(run),
        start=_now(),
        cpus=int(os.environ.get("SLURM_CPUS_ON_NODE", "1")) * int(os.environ.get("SLURM_JOB_NUM_NODES", "1")),
        gpus=int(os.environ.get("SLURM_GPUS_ON_NODE", "0")) * int(os.environ.get("SLURM_JOB_NUM_NODES", "1")),
    )


def training_moments() -> dict[str, float]:
    """What is known of :data:`MOMENTS` when rank 0's program begins; the batch shell knows the first two."""
    told = {"queued": os.environ.get("CODEIO_QUEUED"), "script": os.environ.get("CODEIO_BEGAN")}
    moments = {name: float(text) for name, text in told.items() if text}
    with suppress(OSError):
        moments["process"] = process_start(os.getpid())
    return moments


def process_start(pid: int) -> float:
    """When a process of this host began: field 22 of its status, in ticks since the machine was started (proc(5)).

    Raises:
        OSError: there is none of that number.
    """
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def _job_id() -> str | None:
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{element}" if array and element else os.environ.get("SLURM_JOB_ID")


def _log_within(run: Path) -> str | None:
    log = os.environ.get("CODEIO_LOG")
    return str(Path(log).relative_to(run)) if log and Path(log).is_relative_to(run) else log


def _now() -> str:
    return time.strftime(_TIME, time.gmtime(time.time()))  # gmtime() alone reads a coarser clock, which lags


def read_attempts(run: Path) -> Iterator[Attempt]:
    """All attempt records of a run, by their names: those of a task in the order of its starts."""
    records: dict[str, bytes] = {}
    for path in (run / "attempts").glob("*.json"):
        try:
            records[f"attempts/{path.name}"] = path.read_bytes()
        except OSError:
            continue  # packed meanwhile; or its disk is gone: the shards tell what was done
    for name, content in packed_files(run, "attempts"):
        records.setdefault(name, content)
    for name in sorted(records):
        try:
            yield _read(records[name])
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # another version wrote it, or a failing disk


def _read(content: bytes) -> Attempt:
    record: dict[str, Any] = json.loads(content)
    record["stages"] = {name: StageTotals(**totals) for name, totals in record["stages"].items()}
    for kind in ("failures", "damaged"):
        record[kind] = [Failure(**failure) for failure in record[kind]]
    return Attempt(**record)


def failures_by_shard(run: Path, works: Collection[str]) -> dict[tuple[int | None, int], list[Failure]]:
    """(step, shard) -> its failures in these rounds."""
    result: dict[tuple[int | None, int], list[Failure]] = {}
    for attempt in read_attempts(run):
        if attempt.work in works:
            for failure in attempt.failures:
                result.setdefault((attempt.step, failure.shard), []).append(failure)
    return result
