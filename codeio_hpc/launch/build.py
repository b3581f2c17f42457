"""Building a run: find what is missing, have it done, until nothing is.

One function, :func:`advance`, looks at the run folder and either finds nothing left, or names the next piece of work.
Locally it is called in a loop; on a cluster each array is followed by a small job that calls it again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from codeio_hpc.errors import RunFailedError
from codeio_hpc.launch.attempts import failures_by_shard
from codeio_hpc.launch.executors import start_locally
from codeio_hpc.launch.packing import pack
from codeio_hpc.launch.plan import Look, Place, Step, steps
from codeio_hpc.launch.progress import Progress, wait
from codeio_hpc.launch.rounds import logs, new_round, work_name
from codeio_hpc.launch.run import SOURCES_STAGE, Run
from codeio_hpc.launch.worker import Task
from codeio_hpc.stages.base import Context, GatherStage
from codeio_hpc.tables.shards import DamagedShardError


class BuildFailedError(RunFailedError):
    """Shards failed as often as the configuration allows, or rounds passed without progress."""


@dataclass(frozen=True)
class Round:
    """The next piece of work: these shards of this step."""

    step: Step
    shards: list[int]


def advance(run: Run, look: Look | None = None) -> Round | None:
    """What is to be done next; None when the build is complete. Makes decisions that are due.

    Raises:
        BuildFailedError: a shard has used up its attempts.
        DamagedShardError: the list of source files was damaged after the run was created.
    """
    look = look or Look(run)
    if len(look.sources()) < run.shards:
        raise DamagedShardError(
            f"{run.stages}/{SOURCES_STAGE} is damaged: the run's input is gone; build into a new folder"
        )
    for step in steps(run):
        missing = step.missing(run, look)
        if missing:
            _refuse_hopeless(run, step, missing)
            return Round(step, missing)
        if step.kind == "sketch":
            _decide(run, step.places[0], look)
    return None


def _decide(run: Run, place: Place, look: Look) -> None:
    sources = look.inputs(place)
    if place.decision_is_of(sources):
        return
    stage = place.stage
    assert isinstance(stage, GatherStage)
    sketches = ((place.read_sketch(shard) or {})["data"] for shard in range(run.shards))

    def no_pool(hash_seed: int) -> Any:
        raise RuntimeError("a decision runs no untrusted code")

    context = Context(run.config, stage.name, -1, no_pool, place.folder / "none")
    place.write_decision(sources, stage.decide(sketches, context))


def _refuse_hopeless(run: Run, step: Step, missing: list[int]) -> None:
    allowed = run.config.launch.attempts
    for (number, shard), failures in sorted(failures_by_shard(run.folder).items()):
        if number == step.number and shard in missing and len(failures) >= allowed:
            last = failures[-1]
            raise BuildFailedError(
                f"stage {last.stage}, shard {shard} failed {len(failures)} times; last error: {last.error}\n"
                f"  the output of its attempts is in {logs(run)}"
            )


def build_locally(run: Run, quiet: bool = False) -> bool:
    """Carry a build to its end on this machine; False if there was nothing to do.

    Raises:
        BuildFailedError: a shard has used up its attempts.
    """
    worked = False
    idle_rounds = 0
    while (work := advance(run)) is not None:
        worked = True
        left = _run_round(run, work, quiet)
        idle_rounds = idle_rounds + 1 if left == len(work.shards) else 0
        if idle_rounds > run.config.launch.attempts:
            raise BuildFailedError(f"step {work.step.name} made no progress in {idle_rounds} rounds")
    return worked


def _run_round(run: Run, work: Round, quiet: bool) -> int:
    """Carry out a round; how many of its shards are still missing."""
    workers = run.config.launch.workers
    name = work_name(work.step.number, new_round(run, work.step.number))
    packed = pack(work.shards, lambda shard: 1.0, float("inf"), max(1, workers))
    tasks = [Task(run.folder, work.step.number, name, number, tuple(shards)) for number, shards in enumerate(packed)]
    folder = logs(run) / name
    jobs = start_locally(tasks, bool(workers), folder)
    progress = Progress(work.step, work.shards, quiet=quiet)
    try:
        if workers:
            wait(lambda: all(job.done() for job in jobs), progress)
        errors = [error for job in jobs if (error := job.exception()) is not None]
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    finally:
        progress.close()
    left = len(work.step.missing(run))
    if not errors and not left:
        shutil.rmtree(folder)  # logs of success tell nothing: the attempt records do
    return left
