"""Functions that must not become training data."""

import random
import time


def roll(sides: int) -> int:
    """Roll a die."""
    return random.randint(1, sides)


def now(offset: float) -> float:
    """Tell the time."""
    return time.time() + offset


def first_of_set(words: list[str]) -> str:
    """Give some word of a set."""
    return next(iter(set(words)))
