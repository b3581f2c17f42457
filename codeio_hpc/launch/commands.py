"""What the verbs on a run do; each returns plain data for the command line to print."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeio_hpc.config import RunConfig, apply_overrides, load_yaml, merge, parse
from codeio_hpc.config.facts import check_model
from codeio_hpc.config.policy import refuse_weak_isolation
from codeio_hpc.config.recipe import recipe_of
from codeio_hpc.config.tokenizer import tokenizer_folder
from codeio_hpc.errors import UserError
from codeio_hpc.launch.plan import samples_of
from codeio_hpc.launch.progress import Tally
from codeio_hpc.launch.run import (
    Run,
    create_or_open_run,
    open_run,
    point_latest,
    refuse_other_code,
    with_absolute_paths,
)
from codeio_hpc.launch.sites.files import find_file
from codeio_hpc.launch.status import unit_of
from codeio_hpc.stages.benchmarks import read_items

if TYPE_CHECKING:
    from codeio_hpc.config.site import Site
    from codeio_hpc.launch.slurm import QueuedJob


PRESETS = Path("configs/runs/ablations")


def read_config(path: Path, overrides: Sequence[str], presets: Sequence[str] = ()) -> RunConfig:
    """The run configuration in a YAML file, with presets and then overrides applied, checked as :func:`checked` does.

    Raises:
        UserError: see :func:`codeio_hpc.config.load_yaml`, :func:`codeio_hpc.config.parse`, :func:`checked`.
    """
    path = find_file(path)
    data = load_yaml(path)
    for preset in presets:
        data = merge(data, load_yaml(_preset_path(preset)))
    return checked(parse(RunConfig, apply_overrides(data, overrides), str(path)))


def checked(config: RunConfig) -> RunConfig:
    """The configuration with its paths absolute. Its recipe, model, tokenizer, benchmarks and earlier runs are looked
    up: the last stages need them, and a build may take days to get there.

    Raises:
        UserError: see :func:`codeio_hpc.config.recipe.recipe_of`,
            :func:`codeio_hpc.config.tokenizer.tokenizer_folder`, :func:`codeio_hpc.config.facts.check_model`,
            :func:`codeio_hpc.stages.benchmarks.read_items`,
            :func:`codeio_hpc.config.policy.refuse_weak_isolation`, :func:`codeio_hpc.launch.plan.samples_of`.
    """
    config = with_absolute_paths(config)
    refuse_weak_isolation(config.sandbox.minimum)
    _check_recipe(config)
    for benchmark in config.decontaminate.benchmarks:
        for _ in read_items(benchmark):
            pass
    for folder in config.launch.reuse:
        open_run(Path(folder))
    for source in config.samples:
        if source.run is not None:
            samples_of(open_run(Path(source.run)))
    return config


def _check_recipe(config: RunConfig) -> None:
    if config.recipe is not None:
        recipe, model = recipe_of(config), tokenizer_folder(Path(config.recipe))
        if (model / "config.json").is_file():  # tokens can be made without it
            for stage in recipe.has:
                check_model(recipe, stage, model)


def _preset_path(name: str) -> Path:
    """The file of a preset: a name in :data:`PRESETS`, or a path."""
    path = Path(name) if name.endswith((".yaml", ".yml")) or "/" in name else PRESETS / f"{name}.yaml"
    if find_file(path).exists() or path.parent != PRESETS:
        return find_file(path)
    known = sorted(entry.stem for entry in find_file(PRESETS).glob("*.yaml"))
    raise UserError(
        f"preset '{name}'",
        f"there is no file {path}",
        f"known presets: {', '.join(known) or 'none here'}; or give a file: --preset PATH.yaml",
    )


def build(
    config_path: Path,
    overrides: Sequence[str],
    presets: Sequence[str],
    folder: Path | None,
    site: Site | None,
    wait: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Create the run of a configuration file if it is not there, and carry it on."""
    return build_run(read_config(config_path, overrides, presets), folder, site, wait, quiet)


def build_run(config: RunConfig, folder: Path | None, site: Site | None, wait: bool, quiet: bool) -> dict[str, Any]:
    """Create the run of a configuration that :func:`checked` has seen if it is not there, and carry it on."""
    tally = Tally("listing sources", unit_of(config), quiet=quiet)
    run = create_or_open_run(folder or Path("runs") / config.name, config, listed=tally, say=tally.say)
    point_latest(run)
    return carry_on(run, site, wait, quiet)


def resume(folder: Path, site: Site | None, wait: bool, quiet: bool) -> dict[str, Any]:
    """Carry an existing run on."""
    run = open_run(folder)
    refuse_other_code(run)
    refuse_weak_isolation(run.config.sandbox.minimum)
    _check_recipe(run.config)  # the recipe's file is read anew, and packing too long would replace good sequences
    return carry_on(run, site, wait, quiet)


def carry_on(run: Run, site: Site | None, wait: bool, quiet: bool) -> dict[str, Any]:
    """Do (or submit) everything that is missing; the run's status, with what was done."""
    if site is None:
        from codeio_hpc.launch import slurm
        from codeio_hpc.launch.build import build_locally
        from codeio_hpc.launch.operations import settle

        if slurm.available():  # two at work on the same shards do no harm, but do everything twice
            settle(run, "here everything would be done a second time")
        worked = build_locally(run, quiet)
        return {**_status(run, [], time.time()), "worked": worked, "submitted": None, "at_work": []}
    from codeio_hpc.launch import slurm, submission
    from codeio_hpc.launch.jobs import as_queued, ids_of
    from codeio_hpc.launch.rounds import latest_round
    from codeio_hpc.launch.waiting import wait_for_build

    asked = time.time()
    jobs, submitted = submission.carry_on(run, site, slurm.queue(), quiet, asked)
    record = latest_round(run)
    queue = jobs or (as_queued(record) if submitted and record else [])
    if wait and queue:
        wait_for_build(run, quiet)
        queue, asked = [], time.time()
    done = {"submitted": None if submitted is None else asdict(submitted), "at_work": ids_of(jobs)}
    return {**_status(run, queue, asked), "worked": bool(jobs or submitted), **done}


def _status(run: Run, queue: list[QueuedJob], asked: float) -> dict[str, Any]:
    """The run's state, where its jobs in the queue are known already, since SLURM was asked."""
    from codeio_hpc.launch.status import Answer, run_status

    state = run_status(run, Answer(queue, asked=asked))
    del state["queue"]
    return state


def statuses(folder: Path, every: float | None) -> Iterator[dict[str, Any]]:
    """The state of a run; with ``every`` again after so many seconds, until it is complete. SLURM is asked the first
    time and then once a minute at most: between, only the files tell.

    Raises:
        UserError: ``every`` is less than a second or more than a day, or ``folder`` holds no run.
    """
    from codeio_hpc.launch.status import run_status

    if every is not None and not 1 <= every <= 86400:
        raise UserError(f"--watch {every:g}", "it is the number of seconds between two looks", "give 1 to 86400")
    run = open_run(folder)
    answer = None
    while True:
        if answer is not None and time.time() - answer.asked > 60:
            answer = None
        state = run_status(run, answer)
        answer = state.pop("queue")
        yield state
        if every is None or state["state"] == "complete":
            return
        time.sleep(every)


def log(folder: Path, attempt: str | None) -> dict[str, Any] | None:
    """The log of an attempt, by default of the last failure; None where no task ran as a SLURM job."""
    from codeio_hpc.launch.operations import find_log

    found = find_log(open_run(folder), attempt)
    if found is None:
        return None
    judged = found.judged
    told = f"{judged.attempt.name} on {judged.attempt.host}: {judged.ending.cause}"
    return {
        "attempt": judged.attempt.name,
        "cause": judged.ending.cause,
        "says": judged.ending.says,
        "place": found.place,
        "heading": f"{told}  ({found.place})",
        "text": found.text,
    }


def cancel(folder: Path, stuck_only: bool) -> list[str]:
    """End a run's jobs; their ids."""
    from codeio_hpc.launch import operations

    return operations.cancel(open_run(folder), stuck_only)


def pack(folder: Path) -> dict[str, int]:
    """Put what nobody writes any more into one file."""
    from codeio_hpc.launch import operations

    return operations.pack(open_run(folder))


def clean(folder: Path) -> dict[str, Any]:
    """Remove what nobody needs."""
    from codeio_hpc.launch import operations

    return operations.clean(open_run(folder))


def usage(folder: Path) -> dict[str, Any]:
    """What a run used."""
    from codeio_hpc.launch.usage import usage as used

    return used(open_run(folder))
