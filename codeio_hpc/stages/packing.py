"""Best-fit packing: put documents of given lengths into as few sequences as possible."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of ``lengths``, grouped so that each group's sum is at most ``capacity``.

    Longest first, each into the fullest group that still has room (best-fit decreasing: at most 11/9 of the optimum
    and one more, Johnson 1973). The same lengths give the same groups. Room is counted in whole tokens, so the fullest
    group is found by the lowest set bit of a number of ``capacity`` bits: the work grows with the documents, not with
    the groups that are open.

    Raises:
        ValueError: a length is larger than the capacity.
    """
    groups: list[list[int]] = []
    with_room: dict[int, list[int]] = defaultdict(list)  # room left -> groups with exactly that
    rooms = 0  # bit r: some group has room r
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        if length > capacity:
            raise ValueError(f"a document of {length} tokens does not fit into {capacity}")
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            group = with_room[room].pop()
            rooms ^= (not with_room[room]) << room
            groups[group].append(index)
        else:
            room, group = capacity, len(groups)
            groups.append([index])
        with_room[room - length].append(group)
        rooms |= 1 << (room - length)
    return groups
