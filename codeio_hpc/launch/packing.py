"""How the missing shards of a step are packed into tasks, and tasks into job arrays. Pure functions.

An element of an array should last long enough to be worth starting: many sites ask for half an hour. So tasks are made
by what shards cost, as measured on those that are done; until there are any, by an assumption of the configuration. A
wrong assumption costs a round, not the work: a task that runs out of time ends in good order, and its rest is packed
anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from codeio_hpc.launch.attempts import Attempt


@dataclass(frozen=True)
class Cost:
    """What a shard of a step costs: wall seconds of one task."""

    per_row: float
    """Of its input."""
    per_shard: float
    """Of a shard whose rows are not known."""
    measured_on: int
    """Shards that this was measured on; 0: it is assumed."""

    def of(self, rows: int | None) -> float:
        """Of a shard with so many input rows."""
        return self.per_shard if rows is None or not self.measured_on else max(self.per_row * rows, 1e-3)


def cost_of_step(attempts: Iterable[Attempt], step: int, first: str, assumed: float) -> Cost:
    """What was measured on the step's shards so far; ``assumed`` seconds a shard if nothing was.

    Args:
        first: the step's first stage, by the name in its attempts' records. Its input is the step's.
    """
    seconds = rows = 0.0
    shards = 0
    for attempt in attempts:
        if attempt.step != step:
            continue
        seconds += sum(totals.seconds for totals in attempt.stages.values())
        if first in attempt.stages:  # not where an earlier attempt had taken the shard through it
            rows += attempt.stages[first].rows_in
            shards += attempt.stages[first].shards
    if not shards:
        return Cost(0.0, assumed, 0)
    return Cost(seconds / max(rows, 1), seconds / shards, shards)


def pack(shards: Sequence[int], seconds: Callable[[int], float], lasts: float, least: int) -> list[list[int]]:
    """Tasks that last about ``lasts`` seconds each, by what their shards cost; at least ``least`` of them.

    The costliest shard goes first to the task that has least to do (Graham's LPT rule: at most 4/3 of the best possible
    makespan). Each task has its shards in ascending order; equal input gives equal tasks.
    """
    costs = {shard: seconds(shard) for shard in shards}
    count = max(least, -(-sum(costs.values()) // max(lasts, 1e-9)))
    count = max(1, min(int(count), len(shards)))
    loads = [(0.0, task) for task in range(count)]
    tasks: list[list[int]] = [[] for _ in range(count)]
    for shard in sorted(shards, key=lambda shard: (-costs[shard], shard)):
        load, task = heapq.heappop(loads)
        tasks[task].append(shard)
        heapq.heappush(loads, (load + costs[shard], task))
    return [sorted(task) for task in tasks if task]


@dataclass(frozen=True)
class ArrayPart:
    """One job array of the several that a step's tasks may need."""

    first: int
    """Number of the task that its element 0 does."""
    tasks: int
    at_once: int
    """Elements that may run at the same time."""
    after: int | None
    """The part that must have ended before; None: at once."""


def split(tasks: int, max_array_size: int, at_once: int) -> list[ArrayPart]:
    """Arrays for so many tasks on a site: none larger than MaxArraySize, together no more than ``at_once`` at a time.

    Where there are more arrays than may run at a time, they wait for each other in lanes.
    """
    starts = range(0, tasks, max_array_size)
    lanes = min(len(starts), at_once)
    return [
        ArrayPart(
            first,
            min(max_array_size, tasks - first),
            at_once // lanes + (number % lanes < at_once % lanes),
            number - lanes if number >= lanes else None,
        )
        for number, first in enumerate(starts)
    ]
