"""What a dataset consists of: counts over its finished samples and conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codeio_hpc.config.recipe import TRAINING_STAGES
from codeio_hpc.launch.plan import places
from codeio_hpc.launch.progress import Tally
from codeio_hpc.launch.run import Run
from codeio_hpc.tables.schemas import CONVERSATIONS, PAIRS, SAMPLES
from codeio_hpc.tables.shards import part_path, published_shards, read_table

_GROUPS = ("source", "licence", "language", "direction", "format", "category", "tier")
_BIN = 2.0
"""Width of a bar of the histogram of difficulty."""


def statistics(run: Run, training_stage: str) -> dict[str, Any]:
    """Counts over the samples of one training stage.

    Returns {"samples", "functions", "files", "by": {column: {value: count}}, "tags", "flags": {name: count},
    "difficulty": [{"from", "to", "count"}], "characters": {"prompt", "response"}: means, "trained": samples an epoch,
    "turns": see :func:`turn_yields`}. What imported samples do not have (functions, directions) is counted nowhere.
    """
    by: dict[str, Counter[str]] = {name: Counter() for name in _GROUPS}
    lists: dict[str, Counter[str]] = {"tags": Counter(), "flags": Counter()}
    bins: Counter[int] = Counter()
    distinct: dict[str, set[str]] = {"function_id": set(), "file_id": set()}
    count = trained = prompt = response = 0
    tell = Tally("counting samples", "shards", run.shards)
    for shard, table in enumerate(_tables(run, SAMPLES.name, None)):
        tell(shard)
        rows = table.filter(pc.equal(table["training_stage"], training_stage))
        count += rows.num_rows
        trained += sum(rows["repeats"].to_pylist())
        for name, counter in by.items():
            counter.update(rows[name].drop_null().to_pylist())
        for name, counter in lists.items():
            counter.update(value for values in rows[name].to_pylist() for value in values)
        bins.update(int(value // _BIN) for value in rows["difficulty"].to_pylist())
        for name, seen in distinct.items():
            seen.update(rows[name].drop_null().to_pylist())
        for messages in rows["messages"].to_pylist():
            prompt += sum(len(message["content"]) for message in messages[:-1])
            response += len(messages[-1]["content"])
    return {
        "samples": count,
        "trained": trained,
        "functions": len(distinct["function_id"]),
        "files": len(distinct["file_id"]),
        "by": {name: dict(counter.most_common()) for name, counter in by.items()},
        **{name: dict(counter.most_common()) for name, counter in lists.items()},
        "difficulty": _histogram(bins),
        "characters": {"prompt": _mean(prompt, count), "response": _mean(response, count)},
        "turns": turn_yields(run),
    }


def stages_with_samples(run: Run) -> list[str]:
    """The training stages that there are samples for, in their order; reads one column."""
    found: set[str] = set()
    for path in _parts(run, SAMPLES.name, None):
        found |= set(pc.unique(pq.read_table(path, columns=["training_stage"])["training_stage"]).to_pylist())
    return [stage for stage in TRAINING_STAGES if stage in found]


def _mean(total: int, count: int) -> float:
    return total / count if count else 0.0


def _histogram(bins: Counter[int]) -> list[dict[str, Any]]:
    if not bins:
        return []
    numbers = range(min(bins), max(bins) + 1)
    return [{"from": number * _BIN, "to": (number + 1) * _BIN, "count": bins[number]} for number in numbers]


def turn_yields(run: Run) -> list[dict[str, Any]]:
    """For each direction and turn {"direction", "turn", "asked", "correct", "rate"}: how many answers the teacher gave
    and how many of them were right."""
    asked: Counter[tuple[str, int]] = Counter()
    correct: Counter[tuple[str, int]] = Counter()
    for table in _tables(run, CONVERSATIONS.name, "revise"):
        for direction, turns in zip(table["direction"].to_pylist(), table["turns"].to_pylist(), strict=True):
            for number, turn in enumerate(turns, start=1):
                asked[direction, number] += 1
                correct[direction, number] += turn["category"] == "correct"
    return [
        {
            "direction": direction,
            "turn": turn,
            "asked": asked[direction, turn],
            "correct": correct[direction, turn],
            "rate": correct[direction, turn] / asked[direction, turn],
        }
        for direction, turn in sorted(asked)
    ]


def contamination(run: Run) -> list[dict[str, Any]]:
    """For each benchmark {"name", "items", "short", "found", "rate"}, if the run has compared itself with any."""
    for place in places(run):
        if place.stage.name == "decontaminate":
            decision = place.read_decision()
            return [] if decision is None else [{**entry, "found": len(entry["found"])} for entry in decision["data"]]
    return []


def coverage(run: Run) -> dict[str, float] | None:
    """{"functions", "mean", "uncounted"}: functions whose branches were counted, the mean share of its branch outcomes
    that a function's pairs take, and functions that had too many steps to be counted. None if none was counted."""
    shares: list[float] = []
    uncounted = 0
    for table in _tables(run, PAIRS.name, "sample"):
        first = table.filter(pc.equal(table["position"], 0))["coverage"]
        shares += first.drop_null().to_pylist()
        uncounted += first.null_count
    if not shares:
        return None
    return {"functions": len(shares), "mean": sum(shares) / len(shares), "uncounted": uncounted}


def _tables(run: Run, table: str, stage: str | None) -> Iterator[pa.Table]:
    """The Arrow tables of a stage's shards: of the last stage that makes the table, or of the named one."""
    yield from map(read_table, _parts(run, table, stage))


def _parts(run: Run, table: str, stage: str | None) -> Iterator[Path]:
    made = [place for place in places(run) if place.stage.output.name == table and stage in (None, place.stage.name)]
    for place in made[-1:]:
        for shard in published_shards(place.folder):
            yield part_path(place.folder, shard)
