"""Attempt records: one file a start of a task, with what it did and how it ended.

Everything that varies from run to run (times, hosts, isolation level used) lives here and never in a table.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codeio_hpc.tables.files import publish_file


@dataclass
class ShardRecord:
    """One shard taken through one stage."""

    stage: str
    shard: int
    seconds: float
    cpu_seconds: float
    """CPU time of the worker and of its sandboxes."""
    rows_in: int
    rows_out: int
    rejected: int
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class Failure:
    """A shard that could not be finished because the code raised."""

    stage: str
    shard: int
    error: str


_PAUSE = 1.0
_SHARE = 20
"""A record is published every second at most, and so rarely that it takes a twentieth of the time at most."""


@dataclass
class Attempt:
    """One start of a task."""

    attempt: str
    step: int
    task: int
    host: str
    pid: int
    job: str | None
    """SLURM job id, with the array element where there is one."""
    restart: int
    """How often SLURM has requeued the job before this start."""
    start: str
    end: str | None = None
    cause: str | None = None
    """done | error | interrupted; None while running, or when it was killed without warning."""
    isolation: str | None = None
    shards: list[ShardRecord] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    damaged: list[Failure] = field(default_factory=list)
    """Stages that found their input shard damaged; it was removed, to be made again. No failure of the stage."""

    def __post_init__(self) -> None:
        self._due, self._failed = 0.0, 0

    def save(self, run: Path) -> None:
        """Publish the record as it stands."""
        began = time.monotonic()
        text = json.dumps(asdict(self), sort_keys=True)
        publish_file(run / "attempts" / f"{self.attempt}.json", text.encode("utf-8"))
        ended = time.monotonic()
        self._due = ended + max(_PAUSE, _SHARE * (ended - began))
        self._failed = len(self.failures) + len(self.damaged)

    def keep(self, run: Path) -> None:
        """Publish the record if something failed since the last time, or that was a while ago: the record grows with
        every shard, and to write it for each of thousands would take longer than their work."""
        if len(self.failures) + len(self.damaged) > self._failed or time.monotonic() >= self._due:
            self.save(run)

    def finish(self, run: Path, cause: str) -> None:
        """Publish the record with its end."""
        self.end, self.cause = _now(), cause
        self.save(run)


def start_attempt(run: Path, step: int, task: int) -> Attempt:
    """Begin, and publish, the record of a new attempt."""
    attempt = Attempt(
        attempt=f"step{step}-task{task:04d}-{int(time.time() * 1000):013d}-{uuid.uuid4().hex[:6]}",
        step=step,
        task=task,
        host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        pid=os.getpid(),
        job=_job_id(),
        restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        start=_now(),
    )
    attempt.save(run)
    return attempt


def _job_id() -> str | None:
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{element}" if array and element else os.environ.get("SLURM_JOB_ID")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"


def read_attempts(run: Path) -> Iterator[dict[str, Any]]:
    """All attempt records of a run, oldest first within a task."""
    for path in sorted((run / "attempts").glob("*.json")):
        try:
            yield json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # being replaced at this moment, or its disk is gone: the shards tell what was done


def failures_by_shard(run: Path) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """(step, shard) -> its failures so far."""
    result: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for attempt in read_attempts(run):
        for failure in attempt["failures"]:
            result.setdefault((attempt["step"], failure["shard"]), []).append(failure)
    return result
