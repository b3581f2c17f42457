"""Best-fit packing: put documents of given lengths into as few sequences as possible."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of ``lengths``, grouped so that each group's sum is at most ``capacity``.

    Longest first, each into the fullest sequence that still has room (best-fit decreasing: at most 11/9 of the optimum
    and one more, Johnson 1973). The same lengths give the same groups.

    Raises:
        ValueError: a length is larger than the capacity.
    """
    groups: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (room left, group), ascending
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        if length > capacity:
            raise ValueError(f"a document of {length} tokens does not fit into {capacity}")
        place = bisect_left(rooms, (length, -1))
        if place == len(rooms):
            groups.append([index])
            insort(rooms, (capacity - length, len(groups) - 1))
            continue
        room, group = rooms.pop(place)
        groups[group].append(index)
        insort(rooms, (room - length, group))
    return groups
