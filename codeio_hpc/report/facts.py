"""What the page shows, gathered from the run folder."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from codeio_hpc.launch.attempts import read_attempts
from codeio_hpc.launch.plan import Place, places
from codeio_hpc.launch.run import Run, source_rows
from codeio_hpc.tables.shards import part_path, published_shards, read_footer, read_rejected, read_shard

_BROWSED = 60
_REASONS = 8


def _place(run: Run, stage: str) -> Place | None:
    return next((place for place in places(run) if place.stage.name == stage), None)


def funnel(run: Run) -> list[dict[str, Any]]:
    """Rows of every table on the way, with the width of their bar in percent."""
    rows: list[dict[str, Any]] = [{"name": "source files", "stage": "", "rows": source_rows(run)}]
    for place in places(run):
        footers = [read_footer(part_path(place.folder, shard)) for shard in published_shards(place.folder)]
        count = sum(footer.rows for footer in footers if footer)
        rows.append({"name": place.stage.output.name, "stage": place.stage.name, "rows": count})
    most = max(row["rows"] for row in rows) or 1
    return [{**row, "share": 100 * row["rows"] / most} for row in rows]


def rejections(run: Run) -> list[dict[str, Any]]:
    """The most frequent reasons of each stage; input rows and candidates apart."""
    result = []
    for place in places(run):
        own: Counter[str] = Counter()
        candidates: Counter[str] = Counter()
        for shard in published_shards(place.folder):
            for row in read_rejected(place.folder, shard):
                reason = row["reason"].split(":")[0]
                (own if row["parent_id"] is None else candidates)[reason] += 1
        for kind, counts in (("rows", own), ("candidates", candidates)):
            if counts:
                top = counts.most_common(_REASONS)
                result.append({"stage": place.stage.name, "kind": kind, "total": counts.total(), "reasons": top})
    return result


def stage_times(run: Run) -> list[dict[str, Any]]:
    """Wall and CPU seconds of each stage over all attempts, in the order of the stages."""
    wall: dict[str, float] = defaultdict(float)
    cpu: dict[str, float] = defaultdict(float)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for attempt in read_attempts(run.folder):
        for shard in attempt["shards"]:
            wall[shard["stage"]] += shard["seconds"]
            cpu[shard["stage"]] += shard["cpu_seconds"]
            counts[shard["stage"]].update(shard["counts"])
    most = max(wall.values(), default=0) or 1
    return [
        {
            "stage": stage,
            "wall": wall[stage],
            "cpu": cpu[stage],
            "share": 100 * wall[stage] / most,
            "counts": sorted(counts[stage].items()),
        }
        for stage in wall
    ]


def training(run: Run, stage: str) -> list[dict[str, Any]]:
    """The lines of a training stage's metrics; none if it has not run."""
    try:
        text = (run.folder / "train" / stage / "metrics.jsonl").read_text(encoding="utf-8")
    except OSError:
        return []
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def evaluation(run: Run) -> dict[str, Any] | None:
    """The evaluation's summary; None if it has not run."""
    try:
        summary: dict[str, Any] = json.loads((run.folder / "evaluation" / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary


def samples(run: Run) -> list[dict[str, Any]]:
    """Conversations to look at: of evenly spread shards and rows, revised ones and right ones."""
    place = _place(run, "revise")
    if place is None:
        return []
    found: list[dict[str, Any]] = []
    shards = published_shards(place.folder)
    for shard in shards[:: max(1, len(shards) // 20)]:
        rows = read_shard(part_path(place.folder, shard))
        revised = [row for row in rows if len(row["turns"]) > 1]
        plain = [row for row in rows if len(row["turns"]) == 1]
        found += revised[:: max(1, len(revised) // 2)][:2] + plain[:: max(1, len(plain) // 2)][:2]
    keys = ("instance_id", "source", "path", "name", "direction", "question", "code", "input", "output", "turns")
    return [{key: row[key] for key in keys} for row in found[:_BROWSED]]
