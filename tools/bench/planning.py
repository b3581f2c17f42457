"""A dataset of the paper's size, planned: 810,500 files, 454,900 functions, 3.5 million instances on 1,000 tasks.

    python tools/bench/planning.py [--plot FILE.svg]

The engine's own planner packs the work and a simulation carries it out, as `codeio plan data` does. Rows are those of
arXiv 2502.07316, seconds and bytes a row this project's own (docs/planning.md). ``cost=30`` is what a language model as
teacher comes to that takes 1.5 s a reply; with the built-in tracer there is too little to do for 1,000 tasks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codeio_hpc.config.run import RunConfig, Source
from codeio_hpc.config.site import Preemption, ResourceClasses, Resources, Site
from codeio_hpc.launch.forecast import Assumptions, forecast
from codeio_hpc.launch.measured import DEFAULTS
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


def assumptions(**more: Any) -> Assumptions:
    return Assumptions(
        files=FILES,
        functions_per_file=FUNCTIONS / FILES,
        pairs_per_function=INSTANCES / 2 / FUNCTIONS,
        instances_per_pair=2.0,
        **more,
    )


def plan(tasks: int, limit: int, **more: Any) -> dict[str, Any]:
    """Of at least so many tasks a step, with so many minutes as their limit."""
    config = RunConfig(
        name=f"{FUNCTIONS:,} functions".replace(",", "").replace(" ", "-"),
        sources=(Source(name="code", path="code"),),
        recipe="configs/models/tiny.yaml",
    )
    launch = config.launch.model_copy(update={"tasks": tasks, "task_time": limit})
    resources = ResourceClasses(cpu=Resources(time="1h", preemption=Preemption(mode="requeue")))
    site = Site(name="study", resources=resources, max_tasks_at_once=1000)
    return forecast(config.model_copy(update={"launch": launch}), site, DEFAULTS, assumptions(**more))


def cells(name: str, course: Mapping[str, Any]) -> str:
    calls = course["calls"]
    requeues = calls.get("scontrol requeue", 0)
    took = f"stops after {clock(course['seconds'])}" if course["failed"] else clock(course["seconds"])
    return (
        f"| {name} | {took} | {course['cpu_hours']['allocated']:,.0f} "
        f"| {100 * course['lost_share']:.2f} % | {len(course['rounds'])} | {course['tasks']:,} | {course['starts']:,} "
        f"| {calls['sbatch']} | {calls['squeue']} | {requeues:,} | {course['files']['peak']:,} |"
    )


HEAD = (
    "| | time | CPU-hours | lost | rounds | tasks | starts | sbatch | squeue | requeue | files at most |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Heading of a plan, and the plan."""
    for cost, limit in ((1, 60), (30, 60), (30, 360)):
        for tasks in (1000, 4):
            yield f"cost={cost}, tasks={tasks}, task_time={limit // 60}h", plan(tasks, limit, cost=cost)
    yield "the same with tasks=1000 on a rough cluster", plan(1000, 360, cost=30, **ROUGH)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, help="draw the last plan of the table")
    options = parser.parse_args()
    began = time.monotonic()
    print(HEAD)
    for heading, found in rows():
        print(cells(f"**{heading}**, without faults", found["scenarios"]["calm"]))
        print(cells("with faults", found["scenarios"]["faults"]))
        for length in found["lengths"]:
            print(cells(f"with faults, tasks of {length['task_lasts']} min", length), flush=True)
    rows_of = found["rows"]
    packed = found["scenarios"]["calm"]["files"]["packed"]
    print(
        f"\n{found['shards']:,} shards; {rows_of['transform']:,} functions, {rows_of['sample']:,} pairs, "
        f"{rows_of['pose']:,} instances; {found['bytes'] / 1e9:.1f} GB; {packed:,} files after `codeio pack`; "
        f"all plans in {time.monotonic() - began:.0f} s"
    )
    if options.plot:
        write_plot(found, options.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
