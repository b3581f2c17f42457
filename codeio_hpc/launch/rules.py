"""When a task begins another shard, and when a build gives up: rules that a build and a calculated one share."""

from __future__ import annotations

from collections.abc import Sequence

LAST_SECONDS = 20.0
"""Left before a time limit for ending in good order; SLURM looks at its clock every 30 s, so it is seldom on time."""


def fits(left: float, longest: float) -> bool:
    """Whether a task with ``left`` seconds begins another shard, where the longest so far took ``longest``."""
    return left >= longest + LAST_SECONDS


def is_hopeless(failures: int, attempts: int) -> bool:
    """Whether a shard that failed so often has used up its attempts (``launch.attempts``)."""
    return failures >= attempts


def rounds_in_vain(missing: Sequence[int], now: int, attempts: int) -> int:
    """After how many rounds of a step in a row as many of its shards are missing as before them; 0 while that is no
    reason to stop: one round more than a shard has attempts.

    Args:
        missing: shards of the step that each round was to do, in their order.
        now: those that are missing now.
    """
    allowed = attempts + 1
    return allowed if list(missing[-allowed:]) == [now] * allowed else 0
