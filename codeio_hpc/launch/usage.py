"""What a run used: hours of CPUs and GPUs, how much of them did published work, files."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from codeio_hpc.launch.attempts import StageTotals, read_attempts
from codeio_hpc.launch.operations import count_files
from codeio_hpc.launch.plan import places
from codeio_hpc.launch.progress import clock
from codeio_hpc.launch.run import Run
from codeio_hpc.tables.index import names_in


def usage(run: Run) -> dict[str, Any]:
    """CPU-hours and GPU-hours allocated and used, by stage and in all; files by stage.

    An attempt that was killed without a word is counted up to its last sign of life.
    """
    allocated = gpus = working = used = 0.0
    stages: dict[str, StageTotals] = defaultdict(StageTotals)
    attempts, cpus = 0, 0
    for attempt in read_attempts(run.folder):
        attempts, cpus = attempts + 1, max(cpus, attempt.cpus if attempt.step is not None else 0)
        seconds = max(0.0, attempt.saved - attempt.began)
        allocated += seconds * attempt.cpus
        gpus += seconds * attempt.gpus
        for stage, totals in attempt.stages.items():
            stages[stage].add(totals)
            working += totals.seconds * attempt.cpus
            used += totals.cpu_seconds
    all_places = places(run)
    files = {place.stage.name: len(names_in(place.folder)) for place in all_places}
    order = [name for place in all_places for name in (f"{place.stage.name}-sketch", place.stage.name)]
    return {
        "run": str(run.folder),
        "attempts": attempts,
        "cpu_hours": allocated / 3600,
        "gpu_hours": gpus / 3600,
        "cpu_hours_busy": used / 3600,
        "efficiency": used / allocated if allocated else None,
        "published_share": working / allocated if allocated else None,
        "cpus_a_task": cpus,
        "files": count_files(run.folder),
        "stages": [
            {
                "stage": stage,
                "shards": totals.shards,
                "task_hours": totals.seconds / 3600,
                "cpu_hours_busy": totals.cpu_seconds / 3600,
                "rows": totals.rows_out,
                "seconds_a_shard": totals.seconds / totals.shards if totals.shards else 0.0,
                "slowest_shard": totals.longest,
                "lost": totals.lost,
                "files": files.get(stage, 0),
            }
            for stage, totals in sorted(stages.items(), key=lambda each: _place_in(order, each[0]))
        ],
    }


def _place_in(order: list[str], stage: str) -> int:
    """Training comes behind the stages of data."""
    return order.index(stage) if stage in order else len(order)


def usage_text(data: dict[str, Any]) -> str:
    """The same for people."""
    efficiency = "" if data["efficiency"] is None else f", {100 * data['efficiency']:.0f} % of them busy"
    kept = "" if data["published_share"] is None else f", {100 * data['published_share']:.0f} % in published shards"
    lines = [
        f"run {data['run']}: {data['attempts']:,} attempts, {data['files']:,} files and folders",
        f"  {data['cpu_hours']:,.2f} CPU-hours allocated{efficiency}{kept}; {data['gpu_hours']:,.2f} GPU-hours",
        "  (while the program ran; SLURM counts the start and the end of jobs too)",
        f"  {'stage':<24}{'shards':>9}{'task time':>12}{'CPU time':>11}{'s a shard':>11}{'slowest':>9}{'files':>9}",
    ]
    for stage in data["stages"]:
        task, busy = (clock(3600 * stage[name]) for name in ("task_hours", "cpu_hours_busy"))
        lines.append(
            f"  {stage['stage']:<24}{stage['shards']:>9,}{task:>12}{busy:>11}"
            f"{stage['seconds_a_shard']:>11,.2f}{stage['slowest_shard']:>9,.2f}{stage['files']:>9,}"
        )
    kept_busy = (data["efficiency"] or 0.0) * data["cpus_a_task"]
    if data["cpus_a_task"] > 2 and kept_busy < 1 and data["cpu_hours"] > 0.1:
        lines.append(
            f"  a task had {data['cpus_a_task']} CPUs and kept {kept_busy:.1f} of them busy: fewer cpus_per_rank in the"
            " site file would waste less"
        )
    return "\n".join(lines)
