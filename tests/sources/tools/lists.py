"""Lists."""

from typing import List


def running_sum(values: List[int]) -> List[int]:
    """Give the running sum of a list of numbers."""
    total, result = 0, []
    for value in values:
        total += value
        result.append(total)
    return result


def second_largest(values: list[int]) -> int:
    """Give the second largest of some numbers."""
    values.sort()
    return values[-2]


def flatten(rows: list[list[int]]) -> list[int]:
    """Join rows into one list."""
    return [value for row in rows for value in row]


def without_duplicates(values: list[int]) -> list[int]:
    """Drop repeated values, keeping the first of each."""
    seen = set()
    return [value for value in values if not (value in seen or seen.add(value))]
