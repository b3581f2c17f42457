"""Small exact statistics for yes-or-no scores."""

from __future__ import annotations

from math import comb, sqrt

_Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def wilson_interval(right: int, items: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927); stays within [0, 1] and is never empty."""
    if items == 0:
        return 0.0, 1.0
    rate, square = right / items, _Z95**2
    centre = (rate + square / (2 * items)) / (1 + square / items)
    half = _Z95 * sqrt(rate * (1 - rate) / items + square / (4 * items**2)) / (1 + square / items)
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value that two models answer the same items equally well (McNemar 1947).

    Only items that exactly one of the two got right tell anything; under equality each falls to either side like a
    fair coin.
    """
    differing = only_first + only_second
    if differing == 0:
        return 1.0
    tail = sum(comb(differing, k) for k in range(min(only_first, only_second) + 1))
    return float(min(1.0, 2 * tail / 2**differing))
