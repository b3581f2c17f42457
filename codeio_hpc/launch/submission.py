"""Sending a run's work to SLURM: arrays of tasks, each step's followed by a small job that steers on.

Nothing waits on a login node, and nothing asks the scheduler in a loop. What a command has to know of the scheduler it
asks once; everything else is in the run folder.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.launch import slurm
from codeio_hpc.launch.attempts import read_attempts
from codeio_hpc.launch.build import BuildFailedError, Round, advance
from codeio_hpc.launch.causes import bad_nodes
from codeio_hpc.launch.executors import TaskCall, submit
from codeio_hpc.launch.jobs import array_parameters, ids_of, is_steering, jobs_at_work, steer_parameters
from codeio_hpc.launch.packing import Cost, cost_of_step, pack, split
from codeio_hpc.launch.plan import Look
from codeio_hpc.launch.rounds import (
    ArrayRecord,
    RoundRecord,
    close_rounds,
    endings,
    new_round,
    read_rounds,
    round_folder,
)
from codeio_hpc.launch.rules import rounds_in_vain
from codeio_hpc.launch.run import Run, folders_of, open_run, refuse_other_code
from codeio_hpc.launch.sites.flags import interpreter, on_host
from codeio_hpc.launch.worker import Task
from codeio_hpc.tables.index import Made

if TYPE_CHECKING:
    from codeio_hpc.config.site import Site

Answer = TypeVar("Answer")

_PAUSE = 20.0
"""Seconds before a submission that SLURM did not take is tried again; twice as long each time, up to five minutes. It
may have been taken: tasks that start meanwhile wait a minute for their files (submitit 1.5), and sbatch took some of
that."""


@dataclass(frozen=True)
class Submitted:
    """What a command sent to SLURM."""

    step: str
    arrays: list[str]
    tasks: int
    steer: str

    @property
    def jobs(self) -> list[slurm.QueuedJob]:
        """As the queue has them now."""
        return [slurm.QueuedJob(job, None, "", "PENDING", "") for job in (*self.arrays, self.steer)]


def submit_next(run: Run, site: Site, quiet: bool = False, asked: float | None = None) -> Submitted | None:
    """Submit the next step's arrays and the job that steers on after them; None if nothing is left to do.

    Waits while SLURM takes no more jobs of this user. Nothing of the run may be in the queue (but the caller).

    Args:
        asked: when a person asked for this (seconds since the epoch); None if the last round asks for its successor.

    Raises:
        BuildFailedError: a shard has used up its attempts, or rounds passed without progress.
        SchedulerError: SLURM refuses the jobs for good.
    """
    _refuse_pattern_in_path(run)
    close_rounds(run)
    look, before = Look(run), read_rounds(run)
    if asked is None:
        asked = before[-1].asked if before else 0.0
    counting = [record for record in before if record.asked == asked]
    work = advance(run, [record.work for record in counting], look)
    if work is None:
        return None
    _refuse_standstill(run, work, counting)
    record = plan_round(run, site, work, look)
    record.round, record.asked = new_round(run, work.step.number), asked
    record.save(run)
    patiently(lambda: _submit_arrays(run, site, record), quiet)
    patiently(lambda: _submit_steer(run, site, record), quiet)
    assert record.steer is not None
    tasks = sum(array.tasks for array in record.arrays)
    return Submitted(record.name, [array.job for array in record.arrays], tasks, record.steer)


def carry_on(
    run: Run, site: Site, queue: Sequence[slurm.QueuedJob], quiet: bool = False, asked: float | None = None
) -> tuple[list[slurm.QueuedJob], Submitted | None]:
    """Submit what comes next, unless that is at work already, as the queue says.

    Returns the run's jobs that are at work, and what was submitted. Where whoever submitted arrays was killed before it
    could submit the job that steers on after them, that is done now.

    Args and raises:
        As :func:`submit_next`.
    """
    jobs = jobs_at_work(run, queue)
    if not jobs:
        return [], submit_next(run, site, quiet, asked)
    records = read_rounds(run)
    if records and not any(is_steering(run, job) for job in jobs):
        record = records[-1]
        record.arrays = record.arrays or [ArrayRecord(job, 0, len(record.tasks)) for job in ids_of(jobs)]
        patiently(lambda: _submit_steer(run, site, record, ids_of(jobs)), quiet)
    return jobs, None


def plan_round(run: Run, site: Site, work: Round, look: Look) -> RoundRecord:
    """Pack the missing shards of a step into tasks. Nothing is written."""
    settings = run.config.launch
    attempts = list(read_attempts(run.folder))
    cost = cost_of_step(attempts, work.step.number, work.step.recorded[0], settings.shard_seconds)
    seconds = _seconds_by_shard(cost, look.inputs(work.step.places[0]))
    tasks = pack(work.shards, seconds, 60.0 * settings.task_lasts, settings.tasks)
    return RoundRecord(
        step=work.step.number,
        round=0,
        name=work.step.name,
        site=site.name,
        missing=len(work.shards),
        tasks=tasks,
        expected_seconds=max(sum(map(seconds, task)) for task in tasks),
        exclude=bad_nodes(endings(run, set())),
    )


def _seconds_by_shard(cost: Cost, sources: dict[int, Made]) -> Callable[[int], float]:
    def seconds(shard: int) -> float:
        return cost.of(sources[shard][2] if shard in sources else None)

    return seconds


def _submit_arrays(run: Run, site: Site, record: RoundRecord) -> None:
    """Submit what is not submitted yet, as much of it as this user may; what does not fit now is left to a later round.

    Raises:
        SubmitLimitError: nothing of it fits.
    """
    done = sum(array.tasks for array in record.arrays)
    for part in split(len(record.tasks), site.max_array_size, site.max_tasks_at_once):
        if part.first < done:
            continue
        after = record.arrays[part.after].job if part.after is not None else None
        parameters = array_parameters(run, site, record, part.first, part.at_once, after)
        count = part.tasks
        while True:
            calls = [TaskCall(task) for task in tasks_of(run, record)[part.first : part.first + count]]
            try:
                job = _send(run, site, record, parameters, interpreter(site, "cpu", folders_of(run)), calls)
            except slurm.SubmitLimitError:
                if count == 1 and not record.arrays:
                    raise
                count //= 2
                if count:
                    continue
                return
            record.arrays.append(ArrayRecord(job, part.first, count))
            record.save(run)
            if count < part.tasks:
                return
            break


def tasks_of(run: Run, record: RoundRecord) -> list[Task]:
    """The tasks of a round."""
    return [
        Task(run.folder, record.step, record.work, number, tuple(shards)) for number, shards in enumerate(record.tasks)
    ]


def _submit_steer(run: Run, site: Site, record: RoundRecord, others: Sequence[str] = ()) -> None:
    """Submit the job that steers on, behind the arrays on record and other jobs of the run, which are not: whoever
    submitted those was killed before it could note them."""
    calls = [SteerCall(run.folder, site)]
    parameters = steer_parameters(run, site, record, others)
    # on the host: there is no sbatch in a container
    record.steer = _send(run, site, record, parameters, on_host(), calls)
    record.save(run)


@dataclass
class SteerCall:
    """What submitit calls once a round has ended: look at what is published, and submit what comes next."""

    run: Path
    site: Site

    def __call__(self) -> None:
        run = open_run(self.run)
        try:
            refuse_other_code(run)
            jobs, submitted = carry_on(run, self.site, patiently(slurm.queue))
        except (RunFailedError, UserError, OSError) as error:
            print(f"codeio: {error}", flush=True)
            if records := read_rounds(run):
                records[-1].failed = str(error)
                records[-1].save(run)
            sys.exit(1)
        print(submitted or (f"at work: {ids_of(jobs)}" if jobs else "build complete"), flush=True)


def _refuse_standstill(run: Run, work: Round, counting: Sequence[RoundRecord]) -> None:
    missing = [record.missing for record in counting if record.step == work.step.number]
    if rounds := rounds_in_vain(missing, len(work.shards), run.config.launch.attempts):
        raise BuildFailedError(
            f"step {work.step.name}: {len(work.shards)} shards are still missing after {rounds} arrays in a row\n"
            f"  codeio status {run.folder} shows why their tasks ended; codeio logs {run.folder} shows the last log"
        )


def _send(
    run: Run,
    site: Site,
    record: RoundRecord,
    parameters: dict[str, Any],
    python: str,
    calls: Sequence[Callable[[], None]],
) -> str:
    """Submit a job of a round; waits rather than call sbatch for this run more often than the site wants, whatever
    commands and jobs do it."""
    others = [each for each in read_rounds(run) if each.work != record.work]
    lately = sorted(when for each in (*others, record) for when in each.sent)[-site.max_submissions_per_minute :]
    if len(lately) == site.max_submissions_per_minute:
        time.sleep(max(0.0, lately[0] + 60 - time.time()))
    record.sent.append(time.time())
    return submit(round_folder(run, record), parameters, python, calls)


def _refuse_pattern_in_path(run: Run) -> None:
    if "%" in str(run.folder):
        raise UserError(
            f"run folder {run.folder}", "SLURM reads '%' in the path of a log as a pattern", "name it without '%'"
        )


def patiently(ask: Callable[[], Answer], quiet: bool = False) -> Answer:
    """Try until SLURM takes it: that it takes nothing now is no failure.

    Raises:
        SchedulerError: it refuses for good.
    """
    pause = _PAUSE
    while True:
        try:
            return ask()
        except slurm.SchedulerBusyError as error:
            if not quiet:
                print(f"SLURM takes nothing now ({error}); again in {pause:.0f} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, 300.0)
