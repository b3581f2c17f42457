"""Waiting for a build that SLURM carries out, by looking at its files."""

from __future__ import annotations

import time

from codeio_hpc.launch import slurm
from codeio_hpc.launch.build import BuildFailedError
from codeio_hpc.launch.jobs import jobs_at_work
from codeio_hpc.launch.plan import Step, steps
from codeio_hpc.launch.progress import Progress
from codeio_hpc.launch.rounds import latest_round
from codeio_hpc.launch.run import Run

_STILL = 600.0
"""Seconds without anything published after which SLURM is asked whether it still has jobs of the run; then twice that,
and so on: a full queue may keep them waiting for days."""


_PAUSE, _LONGEST_PAUSE = 2.0, 30.0
"""Seconds between looks: each lists the folders of the step. A pause is a tenth longer than the one before, so that the
end of a step is seen after a tenth more of the time that it took, at most."""


def wait_for_build(run: Run, quiet: bool = False) -> None:
    """Block until the build in the run folder is complete.

    Raises:
        BuildFailedError: the steering job gave up, or none of the run's jobs is left.
    """
    for step in steps(run):
        if missing := step.missing(run):
            _wait_for_step(run, step, missing, quiet)


def _wait_for_step(run: Run, step: Step, missing: list[int], quiet: bool) -> None:
    progress = Progress(step, missing, quiet=quiet)
    pause, asked_after = _PAUSE, _STILL
    still, before = time.monotonic(), progress.parts_done
    try:
        while missing:
            time.sleep(pause)
            pause = min(1.1 * pause, _LONGEST_PAUSE)
            progress.show()
            _refuse_stopped(run)
            if progress.parts_done > before:
                still, asked_after, before = time.monotonic(), _STILL, progress.parts_done
            elif time.monotonic() - still > asked_after:
                asked_after *= 2
                _refuse_deserted(run, step)
            if progress.is_full:  # by names: something may not be valid, and is being made again
                missing = step.missing(run)
    finally:
        progress.close()


def _refuse_stopped(run: Run) -> None:
    record = latest_round(run)
    if record is not None and record.failed:
        raise BuildFailedError(record.failed)


def _refuse_deserted(run: Run, step: Step) -> None:
    if not jobs_at_work(run, slurm.queue()) and step.missing(run):
        raise BuildFailedError(f"SLURM has no job of this run any more; continue with: codeio resume {run.folder}")
