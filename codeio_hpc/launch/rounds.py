"""Rounds: each time the missing shards of a step are sent out. What was sent where is in the round's own record."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.launch.attempts import record_path
from codeio_hpc.launch.causes import HARMLESS, Ending, Judged, judge
from codeio_hpc.launch.executors import log_name
from codeio_hpc.launch.packed import pack_round, packed_names
from codeio_hpc.launch.run import Run
from codeio_hpc.tables.files import publish_file

_WORK = re.compile(r"step(\d+)-round(\d+)")


@dataclass
class ArrayRecord:
    """One job array of a round."""

    job: str
    first: int
    """Number of the task that its element 0 does."""
    tasks: int

    @property
    def end(self) -> int:
        """One more than the number of its last task."""
        return self.first + self.tasks

    def element(self, task: int) -> int | None:
        """The element that does a task; None if the job is no array."""
        return task - self.first if self.tasks > 1 else None

    def job_of(self, task: int) -> str:
        """The id under which SLURM knows a task."""
        element = self.element(task)
        return self.job if element is None else f"{self.job}_{element}"


@dataclass
class RoundRecord:
    """What was sent to SLURM, and how it ended."""

    step: int
    round: int
    name: str
    """Of the step."""
    site: str
    missing: int
    """Shards of the step that were missing when it was sent out."""
    tasks: list[list[int]]
    """Shards of each task."""
    expected_seconds: float
    """What a task was expected to take, at most."""
    asked: float = 0.0
    """When a person last asked for the build; failures before that are not held against it."""
    submitted: float = field(default_factory=time.time)
    sent: list[float] = field(default_factory=list)
    """When sbatch was called for it."""
    arrays: list[ArrayRecord] = field(default_factory=list)
    steer: str | None = None
    """The job that looks at what is published once the arrays have ended."""
    exclude: list[str] = field(default_factory=list)
    """Nodes that were left out: each had ended attempts of this run twice."""
    failed: str | None = None
    """Why nothing was sent out after it, though something is missing."""
    endings: dict[str, list[str]] | None = None
    """Attempt -> [cause, the line that says so], of all that did not end well; None until the round is over."""

    @property
    def work(self) -> str:
        """The name under which its attempts are recorded."""
        return work_name(self.step, self.round)

    @property
    def jobs(self) -> list[str]:
        """Everything of it that SLURM may have."""
        return [array.job for array in self.arrays] + ([self.steer] if self.steer else [])

    def save(self, run: Run) -> None:
        """Publish the record."""
        data = json.dumps(asdict(self), sort_keys=True).encode("utf-8")
        publish_file(round_folder(run, self) / "round.json", data)

    def log_of(self, run: Run, task: int) -> Path | None:
        """Where the output of a task is."""
        for array in self.arrays:
            if array.first <= task < array.first + array.tasks:
                return round_folder(run, self) / log_name(array.job, array.element(task))
        return None


def logs(run: Run) -> Path:
    """The run's folder of logs, one folder a round in it."""
    return run.folder / "logs"


def work_name(step: int, number: int) -> str:
    """``step2-round003``"""
    return f"step{step}-round{number:03d}"


def new_round(run: Run, step: int) -> int:
    """Take the next number of a round of this step, and make its folder."""
    used = {int(number) for at, number in map(_numbers, _names(run)) if int(at) == step}
    number = max(used, default=-1) + 1
    while True:
        try:
            (logs(run) / work_name(step, number)).mkdir(parents=True)
            return number
        except FileExistsError:  # another command took it at this moment
            number += 1


def _names(run: Run) -> Iterator[str]:
    for folder in (logs(run), run.folder / "attempts"):
        if folder.is_dir():
            yield from (entry.name for entry in folder.iterdir() if _WORK.match(entry.name))
    packed = (name.rpartition("/")[2] for name in packed_names(run.folder))
    yield from (name for name in packed if _WORK.match(name))


def _numbers(name: str) -> tuple[str, str]:
    found = _WORK.match(name)
    assert found is not None
    return found[1], found[2]


def read_rounds(run: Run) -> list[RoundRecord]:
    """All rounds that went to SLURM, oldest first."""
    return sorted(map(_read_round, _round_files(run)), key=lambda record: record.submitted)


def latest_round(run: Run) -> RoundRecord | None:
    """The round that was written down last: the one at work. No other is read: with many shards they are large."""
    path = max(_round_files(run), key=lambda path: path.stat().st_mtime_ns, default=None)
    return None if path is None else _read_round(path)


def _round_files(run: Run) -> Iterator[Path]:
    found = logs(run).glob("step*-round*/round.json")
    return (path for path in found if _WORK.fullmatch(path.parent.name))  # not a copy that somebody keeps


def _read_round(path: Path) -> RoundRecord:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        data["arrays"] = [ArrayRecord(**array) for array in data["arrays"]]
        return RoundRecord(**data)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: {error}",
            "it says which jobs do what, and cannot be understood",
            "if none of the run's jobs is in the queue any more (squeue --me), remove the file",
        ) from None


def round_folder(run: Run, record: RoundRecord) -> Path:
    """Where submitit's files and the logs of a round are."""
    return logs(run) / record.work


def close_rounds(run: Run) -> None:
    """Write down how the attempts of ended rounds ended, and pack away their records, and the logs of success.

    No job of the run may be at work, but the one that steers on and calls this.
    """
    all_records = read_rounds(run)
    # SLURM may start that one again, with the same files; they go when the next round is over
    steering = {os.environ.get("SLURM_JOB_ID"), *(record.steer for record in all_records[-1:])}
    for record in all_records:
        for path in left_by_submitit(round_folder(run, record)):
            if path.name.partition("_")[0] not in steering:
                path.unlink(missing_ok=True)
    records = [record for record in all_records if record.endings is None]
    if not records:
        return
    judged = endings(run, set())
    for record in records:
        own = [each for each in judged if each.attempt.work == record.work]
        bad = {each.attempt.name: each for each in own if each.ending.cause not in HARMLESS}
        troubled = {each.attempt.task for each in bad.values()}
        quiet = {each.attempt.task for each in own} - troubled
        paths = [record_path(run.folder, each.attempt.name) for each in own]
        paths += [log for task in quiet if (log := record.log_of(run, task)) is not None]
        pack_round(run.folder, round_folder(run, record), paths)
        record.endings = {name: [each.ending.cause, each.ending.says[:300]] for name, each in sorted(bad.items())}
        record.save(run)  # last: whatever ends this, the next command goes on with it


def endings(run: Run, running: Collection[str] | None, asked: float = math.inf) -> list[Judged]:
    """All attempts of a run with how they ended; of rounds that are over, as it was written down then.

    Args:
        running, asked: see :func:`codeio_hpc.launch.causes.judge`.
    """
    known: dict[str, Ending] = {}
    for record in read_rounds(run):
        known |= {name: Ending(*ending) for name, ending in (record.endings or {}).items()}
    return list(judge(run.folder, running, known, asked))


def left_by_submitit(folder: Path) -> Iterator[Path]:
    """Its files in the folder of a round: what its jobs were to call, what came of it, and their scripts."""
    yield from folder.glob("*.pkl")
    yield from folder.glob("*.sh")
