"""Waiting for a build that SLURM carries out, by looking at its files."""

from __future__ import annotations

import time

from codeio_hpc.launch import slurm
from codeio_hpc.launch.build import BuildFailedError
from codeio_hpc.launch.jobs import jobs_at_work
from codeio_hpc.launch.plan import Look, Step, steps
from codeio_hpc.launch.progress import Progress
from codeio_hpc.launch.rounds import read_rounds
from codeio_hpc.launch.run import Run

_STILL = 600.0
"""Seconds without anything published after which SLURM is asked whether it still has jobs of the run; then twice that,
and so on: a full queue may keep them waiting for days."""


def wait_for_build(run: Run, quiet: bool = False, poll: float = 2.0) -> None:
    """Block until the build in the run folder is complete.

    Raises:
        BuildFailedError: the steering job gave up, or none of the run's jobs is left.
    """
    for step in steps(run):
        while missing := step.missing(run, Look(run)):
            _wait_for_step(run, step, missing, quiet, poll)


def _wait_for_step(run: Run, step: Step, missing: list[int], quiet: bool, poll: float) -> None:
    """Until everything of the step has been published once; whether it is valid is for the caller to see."""
    progress = Progress(step, missing, quiet=quiet)
    still, asked_after, before = time.monotonic(), _STILL, progress.parts_done
    try:
        while progress.parts_done < len(missing) * len(step.places):
            time.sleep(poll)
            progress.show()
            _refuse_stopped(run)
            if progress.parts_done > before:
                still, asked_after, before = time.monotonic(), _STILL, progress.parts_done
            elif time.monotonic() - still > asked_after:
                asked_after *= 2
                _refuse_deserted(run, step)
    finally:
        progress.close()
    if step.missing(run):
        time.sleep(poll)  # something that is there is not valid, and is being made again


def _refuse_stopped(run: Run) -> None:
    records = read_rounds(run)
    if records and records[-1].failed:
        raise BuildFailedError(records[-1].failed)


def _refuse_deserted(run: Run, step: Step) -> None:
    if not jobs_at_work(run, slurm.queue()) and step.missing(run):
        raise BuildFailedError(f"SLURM has no job of this run any more; continue with: codeio resume {run.folder}")
