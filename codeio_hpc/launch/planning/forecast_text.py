"""A plan of a build, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from textwrap import wrap
from typing import Any

from codeio_hpc.launch.progress import clock
from codeio_hpc.launch.run import SOURCES_STAGE

_HEADINGS = {"calm": "without faults", "faults": "with faults"}

_HERE = (
    *("files", "functions_per_file", "pairs_per_function", "instances_per_pair"),
    *("seed", "start_seconds", "spread", "cost"),
)
"""Assumptions that matter without a cluster."""


def forecast_text(plan: Mapping[str, Any]) -> str:
    """The lines that tell what :func:`codeio_hpc.launch.planning.forecast.forecast` found."""
    where = f"on site {plan['site']}" if plan["site"] else "on this machine"
    first = "samples" if "import" in plan["rows"] else "files"
    stages = [(first, SOURCES_STAGE), ("functions", "transform"), ("pairs", "sample"), ("instances", "pose")]
    funnel = " -> ".join(f"{plan['rows'][stage]:,} {name}" for name, stage in stages if stage in plan["rows"])
    return "\n".join(
        [
            f"plan of {plan['name']} {where}: {funnel}",
            f"  {plan['shards']:,} shards, {_bytes_text(plan['bytes'])} in the run folder",
            *_step_lines(plan),
            *_scenario_lines(plan["scenarios"]),
            *_failure_lines(plan["scenarios"]),
            *_advice_lines(plan),
            *_length_lines(plan["lengths"]),
            *_assumption_lines(plan),
        ]
    )


def _step_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {'step':<22}{'s a shard':>10}{'rounds':>8}{'tasks':>9}{'arrays':>8}{'a task lasts':>14}{'until':>10}"
    rounds = plan["scenarios"]["calm"]["rounds"]
    for number, step in enumerate(plan["steps"]):
        own = [each for each in rounds if each["step"] == number]
        if not own:  # it stops before
            continue
        tasks, arrays = (sum(each[name] for each in own) for name in ("tasks", "arrays"))
        yield (
            f"  {step['step']:<22}{step['seconds_a_shard']:>10.2f}{len(own):>8,}{tasks:>9,}{arrays:>8,}"
            f"{clock(max(each['longest'] for each in own)):>14}{clock(own[-1]['ended']):>10}"
        )


def _scenario_lines(scenarios: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    def line(name: str, tell: Callable[[Mapping[str, Any]], str]) -> str:
        return f"  {name:<34}" + "".join(f"{tell(each):>21}" for each in scenarios.values())

    yield "  " + " " * 34 + "".join(f"{_HEADINGS[name]:>21}" for name in scenarios)
    yield line("time from start to end", lambda each: "stops" if each["failed"] else clock(each["seconds"]))
    yield line("CPU-hours", lambda each: f"{each['cpu_hours']['allocated']:,.1f}")
    yield line("  of them lost", lambda each: f"{each['cpu_hours']['lost']:,.2f} ({100 * each['lost_share']:.1f} %)")
    yield line("  of them in starts of tasks", lambda each: f"{each['cpu_hours']['starting']:,.2f}")
    yield line("rounds", lambda each: f"{len(each['rounds']):,}")
    yield line("tasks, and starts of them", lambda each: f"{each['tasks']:,}, {each['attempts']:,}")
    for command in sorted({command for each in scenarios.values() for command in each["calls"]}):
        yield line(f"calls of {command}", partial(_calls_text, command))
    yield line("files at most", lambda each: f"{each['files']['peak']:,}")
    yield line(
        "files at the end, after codeio pack", lambda each: f"{each['files']['end']:,}, {each['files']['packed']:,}"
    )


def _calls_text(command: str, found: Mapping[str, Any]) -> str:
    return f"{found['calls'].get(command, 0):,}"


def _failure_lines(scenarios: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, found in scenarios.items():
        if found["failed"]:
            yield f"  {_HEADINGS[name]}, the build stops after {clock(found['seconds'])}: {found['failed']}"
            yield "    shards take too long: raise launch.task_time, or lower collect.files_per_shard"


def _advice_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    costliest = max(plan["steps"], key=lambda step: step["seconds_a_shard"])
    assumed, takes = plan["assumed_shard_seconds"], costliest["seconds_a_shard"]
    if plan["site"] and not assumed / 3 <= takes <= 3 * assumed:
        yield f"  {costliest['step']} is packed as if a shard took {assumed:g} s: set launch.shard_seconds={takes:.2g}"


def _length_lines(lengths: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if lengths:
        yield "  with faults, if tasks last (launch.task_lasts, in minutes):"
        yield f"  {'minutes':>9}{'time':>10}{'lost':>9}{'tasks':>9}{'sbatch':>9}{'files at most':>15}"
    for each in lengths:
        time = "stops" if each["failed"] else clock(each["seconds"])
        yield (
            f"  {each['task_lasts']:>9}{time:>10}{100 * each['lost_share']:>7.1f} %{each['tasks']:>9,}"
            f"{each['calls']['sbatch']:>9,}{each['files']['peak']:>15,}"
        )


def _assumption_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    yield f"  what stages take and give: {plan['figures']['source']}"
    if plan["differs"]:
        yield from _wrapped(f"  measured with other values of: {', '.join(plan['differs'])}")
        yield "    build a part (a source's max_files) and plan again with --like RUN"
    named = {name: value for name, value in plan["assumed"].items() if value is not None}
    if not plan["site"]:
        named = {name: value for name, value in named.items() if name in _HERE}
    elif plan["preemption"] == "off":
        del named["preemptions"]
        yield "  the site preempts nobody, as its file says"
    elif plan["preemption"] is not None:
        yield f"  the site preempts (mode {plan['preemption']}); how often is an assumption"
    words = [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in named.items()]
    yield from _wrapped(f"assumed (--assume NAME=VALUE changes it): {' '.join(words)}")


def _wrapped(text: str) -> list[str]:
    return wrap(text, 116, initial_indent="  ", subsequent_indent="    ")


def _bytes_text(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
