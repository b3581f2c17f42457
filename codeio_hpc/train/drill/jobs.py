"""The drill's jobs: submitted as people do, preempted, and gone at the end."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from codeio_hpc.errors import RunFailedError
from codeio_hpc.launch import slurm
from codeio_hpc.launch.attempts import Attempt, read_attempts
from codeio_hpc.launch.notice import PASSING, SAVED, Notice
from codeio_hpc.launch.progress import clock
from codeio_hpc.train.drill.place import Place
from codeio_hpc.train.submit import submit_script

_LOOK = 0.5
"""Seconds between two looks at the files of a training."""
_ASK = 60.0
"""Seconds between two questions to SLURM, whether it still has the job."""
_SHOW = 10.0
"""Seconds between two lines of what is waited for, where a line cannot be rewritten."""
_GOES_ON = (0, SAVED, PASSING)
"""Exit codes after which training is done, or started again."""


@dataclass(frozen=True)
class Way:
    """How jobs are preempted here."""

    text: str
    shows_not: str
    """What a drill of this kind leaves open."""


def way_of(place: Place) -> Way:
    """By a job that comes first, where the site file names one and SLURM requeues what it preempts."""
    by, preemption = place.resources.preempted_by, place.resources.preemption
    if by is not None and preemption.mode == "requeue":
        whose = ", ".join(f"{kind} {name}" for kind, name in (("partition", by.partition), ("QOS", by.qos)) if name)
        return Way(
            f"preempted by a job that comes first ({whose})",
            "how long the nodes stay taken: the job that comes first ended at once",
        )
    why = "the site file names nobody who comes first (resources.train.preempted_by)"
    if by is not None:
        why = f"resources.train.preemption.mode is {preemption.mode}: SLURM would not bring the job back"
    return Way(
        "ended by `scontrol requeue`, not by another job",
        f"the notice and the wait of a real preemption: {why}",
    )


@dataclass
class Jobs:
    """Everything that a drill has submitted.

    Args:
        patience: seconds to wait for each thing that has to happen.
        quiet: tell nobody what is waited for.
        notice: heeded while something is waited for, never while a job is being submitted or cancelled: none is lost.
    """

    place: Place
    patience: float
    quiet: bool
    notice: Notice
    submitted: list[str] = field(default_factory=list)

    def train(self, run: Path) -> Training:
        """Submit ``slurm/stage1.sh`` for that run, as people do."""
        job = submit_script(self.place.folder, "stage1", run, self.place.site, self.place.site_file)
        self.submitted.append(job)
        return Training(self, run, job)

    def preempt(self, training: Training, host: str) -> None:
        """Take that node from the training, for as long as it takes to say so."""
        by = self.place.resources.preempted_by
        if by is None or self.place.resources.preemption.mode != "requeue":
            slurm.requeue(training.job)
            return
        named = {
            "partition": by.partition or self.place.resources.partition,
            "account": by.account or self.place.resources.account,
            "qos": by.qos or (self.place.resources.qos if by.partition is None else None),
        }
        flags = [f"--{name}={value}" for name, value in named.items() if value is not None]
        flags += ["--job-name=codeio-drill", f"--nodelist={host}", "--exclusive", "--time=1", "--output=/dev/null"]
        self.submitted.append(slurm.submit_as_typed(self.place.folder, [*flags, "--wrap=true"]))

    def cancel(self) -> None:
        """End what is still there."""
        slurm.cancel(self.submitted)

    def wait(self, training: Training, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is seen in the files of a training.

        Raises:
            RunFailedError: it is not to come, or took longer than one has patience for.
            KeyboardInterrupt: the drill was told to stop.
        """
        start, line = time.monotonic(), _Line(self.quiet)
        asked = start
        try:
            while not condition():
                if self.notice.received:
                    raise KeyboardInterrupt
                training.refuse_failure()
                waited = time.monotonic() - start
                if waited > self.patience:
                    raise RunFailedError(f"no {what} within {clock(self.patience)}; {training.where_it_is()}")
                line.show(
                    f"drill: job {training.job}, {training.steps()} steps done; waiting for {what}, {clock(waited)}"
                )
                if time.monotonic() - asked > _ASK:
                    asked = time.monotonic()
                    training.refuse_desertion(condition, what)
                time.sleep(_LOOK)
        finally:
            line.close()


@dataclass(frozen=True)
class Training:
    """One job of stage 1, as its files tell of it."""

    jobs: Jobs
    run: Path
    job: str

    @property
    def log(self) -> Path:
        """Of all its attempts."""
        return self.jobs.place.folder / f"codeio-stage1-{self.job}.out"

    def attempts(self) -> list[Attempt]:
        """Those that began, in their order."""
        return sorted(read_attempts(self.run), key=lambda attempt: attempt.restart)

    def steps(self) -> int:
        """How far it is."""
        try:
            return (self.run / "train" / "stage1" / "metrics.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    def is_done(self) -> bool:
        """Whether its model is published."""
        return (self.run / "models" / "stage1" / "training.json").exists()

    def refuse_failure(self) -> None:
        """Look into the log for an end that is not to be followed by another start.

        Raises:
            RunFailedError: there is one.
        """
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        said = re.findall(r"^== attempt \d+ (starts|ends: exit code (\d+))", text, re.MULTILINE)
        if said and said[-1][1] and int(said[-1][1]) not in _GOES_ON:
            last = "\n".join(text.splitlines()[-12:])
            raise RunFailedError(f"job {self.job} failed; the end of {self.log}:\n{last}")

    def refuse_desertion(self, condition: Callable[[], bool], what: str) -> None:
        """Ask SLURM whether it still has the job.

        Raises:
            RunFailedError: it has not, and what is waited for is not there.
        """
        if any(each.job == self.job for each in slurm.queue()) or condition():
            return
        raise RunFailedError(f"no {what}; {self.where_it_is()}")

    def where_it_is(self) -> str:
        """What SLURM says of the job, and where its log is."""
        said = [f"is {each.state} ({each.reason})" for each in slurm.queue() if each.job == self.job]
        return f"job {self.job} {said[0] if said else 'is in the queue no more'}; its log: {self.log}"


class _Line:
    """What is waited for: rewritten in a terminal, a new line every ten seconds elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._terminal = quiet, sys.stderr.isatty()
        self._shown = time.monotonic()

    def show(self, text: str) -> None:
        if self._quiet or (not self._terminal and time.monotonic() - self._shown < _SHOW):
            return
        self._shown = time.monotonic()
        print(f"\r\x1b[2K{text}" if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    def close(self) -> None:
        if self._terminal and not self._quiet:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
