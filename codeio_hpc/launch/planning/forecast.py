"""What a build will take, before it is started: time, CPU-hours, lost work, calls of the scheduler, files, bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from codeio_hpc.config import RunConfig, apply_overrides, parse
from codeio_hpc.config.run import LaunchSettings
from codeio_hpc.launch.commands import read_config
from codeio_hpc.launch.plan import Step, places, steps
from codeio_hpc.launch.planning.inodes import count_inodes
from codeio_hpc.launch.planning.measured import DEFAULTS, Measured, measure
from codeio_hpc.launch.planning.nodes import Assumed
from codeio_hpc.launch.planning.simulate import Outcome, RoundOutcome, StepLoad, simulate
from codeio_hpc.launch.run import SOURCES_STAGE, Run, open_run
from codeio_hpc.tables.manifest import differing_keys

if TYPE_CHECKING:
    from codeio_hpc.config.site import Site

TASK_LENGTHS = (10, 30, 120)
"""Minutes that tasks should last, which are compared."""

_POINTS = 400
"""Of a timeline."""

_SHAPING = (
    "imports",
    "collect",
    "transform",
    "split",
    "sample",
    "pose",
    "teacher",
    "verify",
    "revise",
    "assemble",
    "tokenise",
)
"""Sections of a configuration that change what a row costs."""


class Assumptions(Assumed):
    """Everything that a plan assumes: of the cluster, and of the data where nothing can be counted."""

    seed: int = 0
    """Of all that is drawn."""
    files: int | None = Field(default=None, ge=1)
    """Raw files; None: those of the configuration's sources are counted."""
    functions_per_file: float | None = Field(default=None, gt=0)
    """None, here and below: as measured."""
    pairs_per_function: float | None = Field(default=None, gt=0)
    instances_per_pair: float | None = Field(default=None, gt=0)
    cost: float = Field(default=1.0, gt=0)
    """How many times as long as measured everything takes: other machines, other code."""


@dataclass(frozen=True)
class Quantities:
    """Rows, bytes and files of each stage when it is complete."""

    shards: int
    rows_in: Mapping[str, float]
    rows_out: Mapping[str, float]
    bytes: Mapping[str, float]
    files: Mapping[str, float]


def plan_data(
    config_path: Path,
    overrides: Sequence[str],
    site: Site | None,
    like: Path | None,
    assume: Sequence[str],
) -> dict[str, Any]:
    """A plan of the build that this configuration describes; nothing is written, and SLURM is not asked.

    Raises:
        UserError: the configuration or an assumption is wrong, or ``like`` is no run that figures can be read from.
    """
    assumptions = parse(Assumptions, apply_overrides({}, assume), "--assume")
    measured = measure(open_run(like)) if like is not None else DEFAULTS
    return forecast(read_config(config_path, overrides), site, measured, assumptions)


def forecast(config: RunConfig, site: Site | None, measured: Measured, assumed: Assumptions) -> dict[str, Any]:
    """A plan, as plain data: {"name", "site", "files", "shards", "rows", "bytes", "steps", "scenarios", "lengths",
    "figures", "differs", "assumed"}. Scenarios are "calm" and, on a site, "faults"; see :func:`scenario`."""
    files = assumed.files or _count_files(config)
    run = Run(Path("runs", config.name).resolve(), config, -(-files // config.rows_per_shard))
    quantities = _quantities(run, files, measured, assumed)
    work = steps(run)
    loads = [_load(step, quantities, measured, assumed.cost) for step in work]

    def course(cluster: Assumed, launch: LaunchSettings) -> dict[str, Any]:
        outcome = simulate(loads, run.shards, launch, site, cluster, assumed.seed)
        return scenario(outcome, work, quantities, site)

    scenarios = {"calm": course(assumed.calm(), config.launch)}
    lengths = []
    if site is not None:
        scenarios["faults"] = course(assumed, config.launch)
        for minutes in TASK_LENGTHS:
            limit = max(config.launch.task_time, 2 * minutes)
            launch = config.launch.model_copy(update={"task_lasts": minutes, "task_time": limit})
            found = course(assumed, launch)
            del found["timeline"]
            lengths.append({"task_lasts": minutes, **found})
    return {
        "name": config.name,
        "site": site.name if site else None,
        "files": files,
        "shards": run.shards,
        "rows": {stage: round(rows) for stage, rows in quantities.rows_out.items()},
        "bytes": round(sum(quantities.bytes.values())),
        "assumed_shard_seconds": config.launch.shard_seconds,
        "steps": [
            {"step": step.name, "seconds_a_shard": sum(load.stages.values())}
            for step, load in zip(work, loads, strict=True)
        ],
        "scenarios": scenarios,
        "lengths": lengths,
        "figures": {
            "source": measured.source,
            "stages": {name: asdict(each) for name, each in measured.stages.items()},
        },
        "differs": sorted(_differences(config, measured)),
        "assumed": assumed.model_dump(mode="json"),
        "preemption": site.resources.cpu.preemption.mode if site else None,
    }


def _count_files(config: RunConfig) -> int:
    from codeio_hpc.stages.registry import list_rows

    return sum(1 for _ in list_rows(config))


def _differences(config: RunConfig, measured: Measured) -> Iterator[str]:
    ours = config.identity()
    for section in _SHAPING:
        yield from differing_keys(ours[section], measured.settings[section], section)


def _quantities(run: Run, files: int, measured: Measured, assumed: Assumptions) -> Quantities:
    """Follow the rows through the stages."""
    rows = float(files)
    given = _given_yields(measured, assumed)
    rows_in, rows_out = {}, {SOURCES_STAGE: rows}
    size = {SOURCES_STAGE: rows * measured.of(SOURCES_STAGE).bytes}
    folder = {SOURCES_STAGE: float(run.shards)}
    for place in places(run):
        name, figures = place.stage.name, measured.of(place.stage.name)
        rows_in[name] = rows
        size[name] = rows * figures.bytes
        folder[name] = figures.files * run.shards
        rows *= given.get(name, figures.rows)
        rows_out[name] = rows
    return Quantities(run.shards, rows_in, rows_out, size, folder)


def _given_yields(measured: Measured, assumed: Assumptions) -> dict[str, float]:
    """Stage -> output rows for each input row, where they are assumed."""
    given = {"sample": assumed.pairs_per_function, "pose": assumed.instances_per_pair}
    if assumed.functions_per_file is not None:
        given["transform"] = assumed.functions_per_file / measured.of("collect").rows
    return {stage: rows for stage, rows in given.items() if rows is not None}


def _load(step: Step, quantities: Quantities, measured: Measured, cost: float) -> StepLoad:
    rows = {place.stage.name: quantities.rows_in[place.stage.name] / quantities.shards for place in step.places}
    seconds = {
        name: cost * rows[place.stage.name] * measured.of(name).seconds
        for name, place in zip(step.recorded, step.places, strict=True)
    }
    return StepLoad(step.name, max(1, round(rows[step.places[0].stage.name])), seconds)


# -- one course of the build -------------------------------------------------------------------------------------------


def scenario(outcome: Outcome, work: Sequence[Step], quantities: Quantities, site: Site | None) -> dict[str, Any]:
    """One course of the build: makespan, hours, lost work, calls, files, rounds and a timeline; times in seconds.

    "starts" are starts of jobs and array elements. Each costs the controller an RPC too, of the node that tells of its
    end, whoever submits.
    """
    cpus = site.resources.cpu.cpus_per_rank if site else 1
    hours = {
        "allocated": outcome.allocated,
        "published": outcome.published,
        "lost": outcome.lost,
        "starting": outcome.starting,
        "steering": outcome.steering,
    }
    return {
        "seconds": outcome.seconds,
        "failed": outcome.failed,
        "cpu_hours": {name: cpus * seconds / 3600 for name, seconds in hours.items()},
        "lost_share": outcome.lost / outcome.allocated if outcome.allocated else 0.0,
        "tasks": sum(each.tasks for each in outcome.rounds),
        "arrays": sum(each.arrays for each in outcome.rounds),
        "attempts": outcome.attempts,
        "causes": dict(outcome.causes.most_common()),
        "calls": dict(outcome.calls.most_common()),
        "starts": outcome.attempts + len(outcome.rounds) * (site is not None),
        "files": count_inodes(outcome, work, quantities.shards, quantities.files, site is not None),
        "rounds": [_as_data(each) for each in outcome.rounds],
        "timeline": timeline(outcome),
    }


def _as_data(record: RoundOutcome) -> dict[str, Any]:
    return {**asdict(record), "hosts": len(record.hosts)}


def timeline(outcome: Outcome) -> dict[str, list[float]]:
    """{"seconds", "running", "published", "lost"} at some moments: tasks at work, shares of all shards that are
    published (each stage counted), and hours of tasks lost so far."""
    moments = [outcome.seconds * number / _POINTS for number in range(_POINTS + 1)]
    changes = sorted(outcome.running)
    published, losses = sorted(outcome.published_at), sorted(outcome.lost_at)
    at_work = [0, *accumulate(change for _, change in changes)]
    lost = [0.0, *accumulate(seconds / 3600 for _, seconds in losses)]
    times = [when for when, _ in changes], [when for when, _ in losses]
    return {
        "seconds": [round(moment, 1) for moment in moments],
        "running": [at_work[bisect_right(times[0], moment)] for moment in moments],
        "published": [round(bisect_right(published, moment) / max(len(published), 1), 4) for moment in moments],
        "lost": [round(lost[bisect_right(times[1], moment)], 5) for moment in moments],
    }
