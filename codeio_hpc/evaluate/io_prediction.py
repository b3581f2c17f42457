"""I/O prediction on the held-out functions of a run: the benchmark that needs nothing from outside."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codeio_hpc.config import RunConfig, settings_hash
from codeio_hpc.evaluate.statistics import wilson_interval
from codeio_hpc.sandbox import Pool
from codeio_hpc.tables import Row
from codeio_hpc.teachers.judge import judge


@dataclass(frozen=True)
class Scored:
    """One answer to one held-out question."""

    instance_id: str
    function_id: str
    direction: str
    response: str
    finished: bool
    category: str
    prediction: str | None
    difficulty: float
    tags: list[str]

    @property
    def correct(self) -> bool:
        """Exact match for outputs; for inputs, that the function gives the wanted output."""
        return self.category == "correct"


def choose(instances: Sequence[Row], most: int, seed: int) -> list[Row]:
    """At most ``most`` held-out instances, spread evenly over functions; the same for the same seed."""
    by_function: dict[str, list[Row]] = defaultdict(list)
    for row in instances:
        if row["split"] == "heldout":
            by_function[row["function_id"]].append(row)
    for rows in by_function.values():
        rows.sort(key=lambda row: settings_hash([seed, row["instance_id"]]))
    chosen: list[Row] = []
    for turn in range(max((len(rows) for rows in by_function.values()), default=0)):
        chosen += [by_function[name][turn] for name in sorted(by_function) if turn < len(by_function[name])]
    return chosen[:most]


class Majority:
    """The best constant answer: what was right most often in training, without looking at the question's values."""

    def __init__(self, instances: Sequence[Row]) -> None:
        counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for row in instances:
            if row["split"] == "train":
                answer = row["output" if row["direction"] == "function" else row["direction"]]
                counts[row["direction"], ""][answer] += 1
                counts[row["direction"], _names(row)][answer] += 1
        self._best = {key: min(count, key=lambda text: (-count[text], text)) for key, count in counts.items()}

    def answer(self, row: Row) -> str:
        """The most frequent answer of the direction; for inputs, among those with the same parameter names; for
        functions, the one that always gives the most frequent output."""
        best = self._best.get((row["direction"], _names(row))) or self._best.get((row["direction"], ""), "null")
        if row["direction"] == "function":
            return f"```python\ndef {row['entry_point']}(**given):\n    return {json.loads(best)!r}\n```"
        return f'{{"{row["direction"]}": {best}}}'


def _names(row: Row) -> str:
    return ",".join(json.loads(row["input"])) if row["direction"] == "input" else ""


def score(rows: Sequence[Row], responses: Sequence[tuple[str, bool]], pool: Pool, config: RunConfig) -> list[Scored]:
    """Judge one (response, finished) a row."""
    result = []
    for row, (response, finished) in zip(rows, responses, strict=True):
        judgement = judge(row, response, pool, config)
        ids = {name: row[name] for name in ("instance_id", "function_id", "direction", "difficulty", "tags")}
        result.append(Scored(**ids, response=response, finished=finished, **_outcome(asdict(judgement))))
    return result


def _outcome(judgement: Mapping[str, Any]) -> dict[str, Any]:
    return {name: judgement[name] for name in ("category", "prediction")}


def summarise(scored: Sequence[Scored]) -> dict[str, Any]:
    """Rates with their intervals, by direction and by category."""
    right = sum(one.correct for one in scored)
    low, high = wilson_interval(right, len(scored))
    return {
        **_rate(scored),
        "low": low,
        "high": high,
        "by_direction": {
            direction: _rate([one for one in scored if one.direction == direction])
            for direction in sorted({one.direction for one in scored})
        },
        "by_difficulty": _by_difficulty(scored),
        "by_tag": {
            tag: _rate([one for one in scored if tag in one.tags])
            for tag in sorted({tag for one in scored for tag in one.tags})
        },
        "categories": dict(sorted(Counter(one.category for one in scored).items())),
        "cut_off": sum(not one.finished for one in scored),
    }


def _by_difficulty(scored: Sequence[Scored]) -> dict[str, dict[str, Any]]:
    """Rates of the easiest, the middle and the hardest third, by estimated difficulty."""
    ordered = sorted(scored, key=lambda one: (one.difficulty, one.instance_id))
    cuts = [round(len(ordered) * third / 3) for third in range(4)]
    return {
        name: _rate(ordered[cuts[place] : cuts[place + 1]])
        for place, name in enumerate(("easiest", "middle", "hardest"))
    }


def _rate(scored: Sequence[Scored]) -> dict[str, Any]:
    right = sum(one.correct for one in scored)
    return {"items": len(scored), "correct": right, "exact_match": right / len(scored) if scored else 0.0}
