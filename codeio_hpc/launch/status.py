"""The state of a run, derived from its files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from codeio_hpc.launch.build import summary_of_attempts
from codeio_hpc.launch.plan import Place, places
from codeio_hpc.launch.run import Run, source_rows
from codeio_hpc.tables.shards import part_path, read_footer


@dataclass(frozen=True)
class StageStatus:
    """How far one stage is."""

    stage: str
    shards: int
    done: int
    rows: int
    rejected: int


def stage_status(run: Run, place: Place) -> StageStatus:
    """Count the valid shards of a stage and the rows in them."""
    done = rows = rejected = 0
    for shard in range(run.shards):
        if not place.is_done(shard):
            continue
        footer = read_footer(part_path(place.folder, shard))
        if footer is not None:
            done, rows, rejected = done + 1, rows + footer.rows, rejected + footer.rejected
    return StageStatus(place.stage.name, run.shards, done, rows, rejected)


def run_status(run: Run) -> dict[str, Any]:
    """Everything `codeio status` shows, as plain data."""
    stages = [stage_status(run, place) for place in places(run)]
    return {
        "run": str(run.folder),
        "name": run.config.name,
        "state": "complete" if all(stage.done == stage.shards for stage in stages) else "incomplete",
        "files": source_rows(run),
        "shards": run.shards,
        "stages": [asdict(stage) for stage in stages],
        "attempts": summary_of_attempts(run),
    }


def status_text(status: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"run {status['name']}: {status['state']}  ({status['run']})",
        f"  {status['files']:,} source files in {status['shards']} shards",
        f"  {'stage':<12}{'shards':>12}{'rows':>12}{'rejected':>12}",
    ]
    for stage in status["stages"]:
        shards = f"{stage['done']}/{stage['shards']}"
        lines.append(f"  {stage['stage']:<12}{shards:>12}{stage['rows']:>12,}{stage['rejected']:>12,}")
    causes = ", ".join(f"{count} {cause}" for cause, count in sorted(status["attempts"].items()))
    lines.append(f"  attempts: {causes or 'none'}")
    if status["state"] != "complete":
        lines.append(f"  continue with: codeio resume {status['run']}")
    return "\n".join(lines)
