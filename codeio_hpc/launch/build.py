"""Building a run: find what is missing, have it done, until nothing is.

One function, :func:`advance`, looks at the run folder and either finds nothing left, or names the next piece of work.
Locally it is called in a loop; on a cluster each array is followed by a small job that calls it again.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeio_hpc.errors import RunFailedError
from codeio_hpc.launch.attempts import failures_by_shard, read_attempts
from codeio_hpc.launch.executors import calls_of, outside_any_job, slurm_executor, slurm_parameters, submit_locally
from codeio_hpc.launch.plan import Step, share_out, steps
from codeio_hpc.launch.progress import Progress, wait
from codeio_hpc.launch.run import Run, open_run, sources_complete
from codeio_hpc.stages.base import Context, GatherStage
from codeio_hpc.tables.shards import DamagedShardError

if TYPE_CHECKING:
    from codeio_hpc.config.site import Site


_ASK_SECONDS = 60.0
"""How often a waiting build asks SLURM for its jobs; sites forbid programs that ask all the time."""


class BuildFailedError(RunFailedError):
    """Shards failed as often as the configuration allows, or rounds passed without progress."""


@dataclass(frozen=True)
class Round:
    """The next piece of work: these shards of this step."""

    step: Step
    shards: list[int]
    number: int
    """How often this step was sent out before."""


def advance(run: Run) -> Round | None:
    """What is to be done next; None when the build is complete. Makes decisions that are due.

    Raises:
        BuildFailedError: a shard has used up its attempts.
        DamagedShardError: the list of source files was damaged after the run was created.
    """
    if not sources_complete(run):
        raise DamagedShardError(f"{run.stages}/00-sources is damaged: the run's input is gone; build into a new folder")
    for step in steps(run):
        missing = step.missing(run.shards)
        if missing:
            _refuse_hopeless(run, step, missing)
            return Round(step, missing, _rounds_so_far(run, step))
        if step.kind == "sketch":
            _decide(run, step)
    return None


def _decide(run: Run, step: Step) -> None:
    place = step.places[0]
    if place.read_decision() is not None:
        return
    stage = place.stage
    assert isinstance(stage, GatherStage)
    sketches = ((place.read_sketch(shard) or {})["data"] for shard in range(run.shards))

    def no_pool(hash_seed: int) -> Any:
        raise RuntimeError("a decision runs no untrusted code")

    context = Context(run.config, stage.name, -1, no_pool, place.folder / "none")
    place.write_decision(stage.decide(sketches, context))


def _refuse_hopeless(run: Run, step: Step, missing: list[int]) -> None:
    allowed = run.config.launch.attempts
    for (number, shard), failures in sorted(failures_by_shard(run.folder).items()):
        if number == step.number and shard in missing and len(failures) >= allowed:
            last = failures[-1]
            raise BuildFailedError(
                f"stage {last['stage']}, shard {shard} failed {len(failures)} times; last error: {last['error']}\n"
                f"  the output of its attempts is in {_launch_folder(run)}"
            )


def _rounds_so_far(run: Run, step: Step) -> int:
    return sum(1 for folder in _launch_folder(run).glob(f"step{step.number}-round*"))


def _launch_folder(run: Run) -> Path:
    return run.folder / "logs"


def _round_folder(run: Run, work: Round) -> Path:
    """submitit's folder: fresh for each round, since a fresh cluster reuses job ids and old results would be found."""
    folder = _launch_folder(run) / f"step{work.step.number}-round{work.number:03d}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build_locally(run: Run, quiet: bool = False) -> bool:
    """Carry a build to its end on this machine; False if there was nothing to do.

    Raises:
        BuildFailedError: a shard has used up its attempts.
    """
    worked = False
    idle_rounds = 0
    while (round_ := advance(run)) is not None:
        worked = True
        before = len(round_.shards)
        _run_round_locally(run, round_, quiet)
        idle_rounds = idle_rounds + 1 if len(round_.step.missing(run.shards)) == before else 0
        if idle_rounds > run.config.launch.attempts:
            raise BuildFailedError(f"step {round_.step.name} made no progress in {idle_rounds} rounds")
    return worked


def _run_round_locally(run: Run, round_: Round, quiet: bool) -> None:
    tasks = share_out(round_.shards, max(1, run.config.launch.workers))
    folder = _round_folder(run, round_)
    jobs = submit_locally(run, round_.step.number, tasks, folder)
    progress = Progress(round_.step, round_.shards, quiet=quiet)
    try:
        if run.config.launch.workers:
            wait(lambda: all(job.done() for job in jobs), progress)
        errors = [error for job in jobs if (error := job.exception()) is not None]
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    finally:
        progress.close()
    if not errors and not _failures_since(run, round_):
        shutil.rmtree(folder)  # logs of success tell nothing: the attempt records do


def _failures_since(run: Run, round_: Round) -> bool:
    return bool(round_.step.missing(run.shards))


def submit_to_slurm(run: Run, site: Site) -> dict[str, Any] | None:
    """Submit the next step's array and the job that steers on after it; None if nothing is left to do.

    Returns the two job ids: {"step", "array", "tasks", "steer"}.
    """
    round_ = advance(run)
    if round_ is None:
        return None
    if round_.number > 10 * run.config.launch.attempts:
        raise BuildFailedError(f"step {round_.step.name} is not finished after {round_.number} arrays")
    tasks = share_out(round_.shards, min(run.config.launch.tasks, site.max_array_size))
    folder = _round_folder(run, round_)
    calls = calls_of(run, round_.step.number, tasks, None)
    executor = slurm_executor(folder, slurm_parameters(run, site, round_.step.name, len(tasks)))
    with outside_any_job():
        with executor.batch():
            jobs = [executor.submit(call) for call in calls]
        array = jobs[0].job_id.split("_")[0]
        steer = slurm_executor(folder, _steer_parameters(run, site, array)).submit(steer_on, run.folder, site)
    return {"step": round_.step.name, "array": array, "tasks": len(tasks), "steer": steer.job_id}


def _steer_parameters(run: Run, site: Site, array: str) -> dict[str, Any]:
    parameters = slurm_parameters(run, site, "steer", 1)
    # afterany, not afterok: a requeued element that failed once would block its successor for ever
    return {**parameters, "dependency": f"afterany:{array}", "time": 15}


def steer_on(run_folder: Path, site: Site) -> None:
    """The job behind an array: look at what is published, and submit what comes next."""
    run = open_run(run_folder)
    submitted = submit_to_slurm(run, site)
    print("build complete" if submitted is None else f"submitted {submitted}", flush=True)


def jobs_at_work(run: Run) -> list[str]:
    """Ids of this run's jobs that SLURM still has, pending ones too: what they do must not be submitted again."""
    submitted = {path.name.split("_")[0] for path in _launch_folder(run).glob("step*-round*/*_submitted.pkl")}
    command = ["squeue", "--me", "--noheader", "--format", "%F %j"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        raise RunFailedError(f"squeue: {listed.stderr.strip() or listed.returncode}")
    ours = f"codeio-{run.config.name}-"  # a new cluster counts job ids from 1 again
    lines = [line.partition(" ") for line in listed.stdout.splitlines()]
    return sorted({job for job, _, name in lines if name.startswith(ours)} & submitted, key=int)


def wait_for_slurm(run: Run, quiet: bool = False, poll: float = 2.0) -> None:
    """Block until the build in the run folder is complete, reading files; SLURM is asked once a minute.

    Raises:
        BuildFailedError: a shard has used up its attempts, or none of the run's jobs is left.
    """
    for step in steps(run):
        missing = step.missing(run.shards)
        if not missing:
            continue
        progress = Progress(step, missing, quiet=quiet)
        try:
            asked = time.monotonic()
            while step.missing(run.shards):
                _refuse_hopeless(run, step, missing)
                progress.show()
                time.sleep(poll)
                if time.monotonic() - asked > _ASK_SECONDS:
                    asked = time.monotonic()
                    _refuse_deserted(run, step)
        finally:
            progress.close()


def _refuse_deserted(run: Run, step: Step) -> None:
    if not jobs_at_work(run) and step.missing(run.shards):
        raise BuildFailedError(f"SLURM has no job of this run any more; continue with: codeio resume {run.folder}")


def summary_of_attempts(run: Run) -> dict[str, int]:
    """How many attempts ended for which cause."""
    causes: dict[str, int] = {}
    for attempt in read_attempts(run.folder):
        cause = attempt["cause"] or "running or killed"
        causes[cause] = causes.get(cause, 0) + 1
    return causes
