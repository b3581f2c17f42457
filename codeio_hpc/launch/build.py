"""Building a run: find what is missing, have it done, until nothing is.

One function, :func:`advance`, looks at the run folder and either finds nothing left, or names the next piece of work.
Locally it is called in a loop; on a cluster each array is followed by a small job that calls it again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.launch.attempts import OF_NO_SHARD, failures_by_shard
from codeio_hpc.launch.executors import start_locally
from codeio_hpc.launch.packing import pack
from codeio_hpc.launch.plan import Look, Place, Step, steps
from codeio_hpc.launch.progress import Progress, wait
from codeio_hpc.launch.rounds import logs, new_round, work_name
from codeio_hpc.launch.rules import is_hopeless
from codeio_hpc.launch.run import SOURCES_STAGE, Run
from codeio_hpc.launch.worker import Task
from codeio_hpc.stages.base import Context, GatherStage
from codeio_hpc.tables.shards import DamagedShardError, part_path, read_footer


class BuildFailedError(RunFailedError):
    """Shards failed as often as the configuration allows, or rounds passed without progress."""


@dataclass(frozen=True)
class Round:
    """The next piece of work: these shards of this step."""

    step: Step
    shards: list[int]


def advance(run: Run, works: Collection[str] = (), look: Look | None = None) -> Round | None:
    """What is to be done next; None when the build is complete. Makes decisions that are due.

    Args:
        works: rounds whose failures count. Those before the last time that a person asked for the build do not: the
            cause may have been mended since.

    Raises:
        UserError: a task found a wrong setting.
        BuildFailedError: a shard has used up its attempts.
        DamagedShardError: the list of source files was damaged after the run was created.
    """
    look = look or Look(run)
    if len(look.sources()) < run.shards:
        raise _input_is_gone(run)
    for step in steps(run):
        missing = step.missing(run, look)
        if missing:
            _refuse_hopeless(run, step, missing, works)
            return Round(step, missing)
        if step.kind == "sketch" and not _decide(run, step.places[0], look):
            return advance(run, works)
    return None


def _input_is_gone(run: Run) -> DamagedShardError:
    return DamagedShardError(
        f"{run.stages}/{SOURCES_STAGE} is damaged: the run's input is gone; build into a new folder"
    )


def _decide(run: Run, place: Place, look: Look) -> bool:
    """Make the stage's decision unless it was made; False if sketches were found damaged, which are removed."""
    sources = look.inputs(place)
    if place.decision_is_of(sources):
        return True
    stage = place.stage
    assert isinstance(stage, GatherStage)

    def no_pool(hash_seed: int) -> Any:
        raise RuntimeError("a decision runs no untrusted code")

    context = Context(run.config, stage.name, -1, no_pool, place.folder / "none")
    try:
        place.write_decision(sources, stage.decide(_sketches(run, place), context))
    except _DamagedSketchError:
        for shard in range(run.shards):
            if place.read_sketch(shard) is None:
                _remove_sketch(run, place, shard)
        return False
    return True


class _DamagedSketchError(Exception):
    """A sketch that is there, by its name, cannot be read."""


def _sketches(run: Run, place: Place) -> Iterator[Any]:
    for shard in range(run.shards):
        sketch = place.read_sketch(shard)
        if sketch is None:
            raise _DamagedSketchError
        yield sketch["data"]


def _remove_sketch(run: Run, place: Place, shard: int) -> None:
    """With the shard that it is of, if that is what is damaged."""
    source = part_path(place.input_folder, shard)
    if read_footer(source) is None:
        if place.input_folder.name == SOURCES_STAGE:
            raise _input_is_gone(run)
        source.unlink(missing_ok=True)
    place.sketch_path(shard).unlink(missing_ok=True)


def _refuse_hopeless(run: Run, step: Step, missing: list[int], works: Collection[str]) -> None:
    wanted = {*missing, OF_NO_SHARD}
    for (number, shard), failures in sorted(failures_by_shard(run.folder, works).items()):
        if number != step.number or shard not in wanted:
            continue
        last = failures[-1]
        if shard == OF_NO_SHARD:
            raise UserError.of_text(last.error)
        if is_hopeless(len(failures), run.config.launch.attempts):
            raise BuildFailedError(
                f"stage {last.stage}, shard {shard} failed {len(failures)} times; last error: {last.error}\n"
                f"  the output of its attempts is in {logs(run)}"
            )


def build_locally(run: Run, quiet: bool = False) -> bool:
    """Carry a build to its end on this machine; False if there was nothing to do.

    Raises:
        BuildFailedError: a shard has used up its attempts.
    """
    works: list[str] = []
    idle_rounds = 0
    while (work := advance(run, works)) is not None:
        works.append(work_name(work.step.number, new_round(run, work.step.number)))
        left, errors = _run_round(run, work, works[-1], quiet)
        idle_rounds = idle_rounds + 1 if left == len(work.shards) else 0
        if idle_rounds > run.config.launch.attempts:
            last = f"; last error: {_told(errors[-1])}" if errors else ""
            raise BuildFailedError(f"step {work.step.name} made no progress in {idle_rounds} rounds{last}")
    return bool(works)


def _told(error: BaseException) -> str:
    """The last line of a traceback that submitit hands on; it adds where its logs are."""
    text = str(error)
    return (text.rpartition("\n---")[0] or text).strip().rpartition("\n")[2]


def _run_round(run: Run, work: Round, name: str, quiet: bool) -> tuple[int, list[BaseException]]:
    """Carry out a round; how many of its shards are still missing, and how its tasks broke off."""
    workers = run.config.launch.workers
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
    return left, errors
