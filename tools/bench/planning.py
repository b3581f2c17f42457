"""A dataset of the paper's size, planned: 810,500 files, 454,900 functions, 3.5 million instances, up to 1,000 tasks.

    python tools/bench/planning.py [--plot FILE.svg]

The engine's own planner packs the work and a simulation carries it out, as `codeio plan data` does. Rows are those of
arXiv 2502.07316, seconds and bytes a row this project's own (docs/planning.md). With the built-in tracer there is
little to do for 1,000 tasks; thirty times as much is what a teacher comes to that takes 1.5 s a reply.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codeio_hpc.config.run import RunConfig
from codeio_hpc.config.site import Preemption, ResourceClasses, Resources, Site
from codeio_hpc.launch.planning.forecast import Assumptions, forecast
from codeio_hpc.launch.planning.measured import DEFAULTS
from codeio_hpc.launch.progress import clock
from codeio_hpc.report.courses import write_plot

FILES, FUNCTIONS, INSTANCES = 810_500, 454_900, 3_521_220
"""Of arXiv 2502.07316, table 1. Two instances a pair: one asks for the output, one for the input."""

ROUGH = {
    "preemptions": 1.0,
    "slow_nodes": 0.05,
    "slowness": 4.0,
    "bad_nodes": 0.02,
    "node_failures": 0.5,
}
"""A cluster that is worse than assumed otherwise: every task is preempted once an hour, a node in twenty is four times
slower, one in fifty kills what runs on it, and one in two fails within a day."""


TEACHER = 30.0
"""How many times as long as with the tracer."""


def plan(files: int, cost: float, files_per_shard: int, faults: Mapping[str, float], **launch: Any) -> dict[str, Any]:
    """Of the paper's dataset, on a site that preempts and runs up to 1,000 tasks at a time."""
    config = RunConfig.model_validate(
        {
            "name": "paper-size",
            "sources": [{"name": "code", "path": "code"}],
            "recipe": "configs/models/tiny.yaml",
            "collect": {"files_per_shard": files_per_shard},
        }
    )
    config = config.model_copy(update={"launch": config.launch.model_copy(update=launch)})
    resources = ResourceClasses(cpu=Resources(time="24h", preemption=Preemption(mode="requeue")))
    assumed = Assumptions(
        files=files,
        functions_per_file=FUNCTIONS / FILES,
        pairs_per_function=INSTANCES / 2 / FUNCTIONS,
        instances_per_pair=2.0,
        cost=cost,
        **faults,
    )
    return forecast(config, Site(name="study", resources=resources, max_tasks_at_once=1000), DEFAULTS, assumed)


HEAD = (
    "| | time | CPU-hours | lost | rounds | tasks | starts | sbatch | squeue | requeue | files at most |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def row(name: str, course: Mapping[str, Any]) -> str:
    calls = course["calls"]
    took = f"stops after {clock(course['seconds'])}" if course["failed"] else clock(course["seconds"])
    return (
        f"| {name} | {took} | {course['cpu_hours']['allocated']:,.0f} | {100 * course['lost_share']:.2f} % "
        f"| {len(course['rounds'])} | {course['tasks']:,} | {course['starts']:,} | {calls['sbatch']} "
        f"| {calls['squeue']} | {calls.get('scontrol requeue', 0):,} | {course['files']['peak']:,} |"
    )


def study(files: int) -> dict[str, Any]:
    """Print the table; the plan that is worth a plot."""
    print(HEAD)
    for heading, cost, size in (
        ("tracer, 64 files a shard", 1.0, 64),
        ("teacher, 64 files a shard", TEACHER, 64),
        ("teacher, 16 files a shard", TEACHER, 16),
    ):
        assumed, rough = (plan(files, cost, size, faults, tasks=1000, task_time=240) for faults in ({}, ROUGH))
        print(row(f"**{heading}**, without faults", assumed["scenarios"]["calm"]))
        print(row("with faults as assumed", assumed["scenarios"]["faults"]))
        print(row("on a rough cluster", rough["scenarios"]["faults"]), flush=True)
    short = plan(files, TEACHER, 64, {}, tasks=1000, task_time=60)["scenarios"]["calm"]
    print(row("**teacher, 64 files a shard, task_time 1 h**, without faults", short))
    for seconds in (10, 100):
        lengths = plan(files, TEACHER, 16, {}, shard_seconds=float(seconds), task_time=240)["lengths"]
        for found in lengths:
            name = f"tasks of {found['task_lasts']} min, shard_seconds={seconds}"
            print(row(f"**teacher, 16 files a shard**, {name}, with faults", found), flush=True)
    return rough


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the one of 16 files a shard, roughly")
    parser.add_argument("--files", type=int, default=FILES, help=f"raw files (default: {FILES:,})")
    options = parser.parse_args()
    began = time.monotonic()
    drawn = study(options.files)
    rows = drawn["rows"]
    packed = drawn["scenarios"]["calm"]["files"]["packed"]
    print(
        f"\n{rows['transform']:,} functions, {rows['sample']:,} pairs, {rows['pose']:,} instances; "
        f"{drawn['bytes'] / 1e9:.1f} GB; of 16 files a shard {drawn['shards']:,} shards, and {packed:,} files after "
        f"`codeio pack`; all plans in {time.monotonic() - began:.0f} s"
    )
    if options.plot:
        write_plot(drawn, options.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
