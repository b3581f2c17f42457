"""Which of many rows are the same as, or almost the same as, an earlier one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from codeio_hpc.stages.base import RefusedRowError, Rejection
from codeio_hpc.stages.near_duplicates import near_duplicates, unpack
from codeio_hpc.tables import Row

Sketch = Sequence[Sequence[str]]
"""Of each row of a shard: its id, the id of its content, and where almost equal ones are looked for its signature and,
if rows are to be compared with some only, its group; of a row that is dropped already its id, '', reason and detail."""


def sketch_of(rows: Sequence[Row], look: Callable[[Row], list[str]]) -> list[list[str]]:
    """The sketch of source rows. ``look`` gives what a sketch has behind the id, or raises RefusedRowError."""
    found = []
    for row in rows:
        try:
            found.append([row["source_id"], *look(row)])
        except RefusedRowError as refused:
            found.append([row["source_id"], "", refused.reason, refused.detail])
    return found


def keep_first(
    rows: Sequence[Row], sketch: Sketch, decision: Mapping[str, Sequence[str]], read: Callable[[Row], tuple[Row, str]]
) -> Iterator[Row | Rejection]:
    """What ``read`` makes of each source row that neither its sketch nor :func:`find_duplicates` drops.

    ``read`` gives also the id of the content, or raises RefusedRowError: as ``changed`` is rejected what is not as it
    was when the duplicates were looked for.
    """
    for row, (source_id, identity, *rest) in zip(rows, sketch, strict=True):
        if refusal := decision.get(source_id) if identity else rest:
            yield Rejection(source_id, refusal[0], refusal[1])
            continue
        try:
            made, found = read(row)
        except RefusedRowError as refused:
            yield Rejection(source_id, "changed", f"at the second reading: {refused}")
            continue
        differs = "the content differs from that of the first reading"
        yield made if found == identity else Rejection(source_id, "changed", differs)


def find_duplicates(sketches: Iterator[Sketch], threshold: float | None) -> dict[str, list[str]]:
    """Reason and detail for every row whose content an earlier one has, or resembles at least as much as the threshold.

    In memory: some 60 bytes a row, and its signature.
    """
    import numpy as np

    ids, contents, signed = [np.zeros(0, "S")], [np.zeros(0, "S")], list[tuple[str, str]]()
    for sketch in sketches:
        rows = [row for row in sketch if row[1]]
        ids.append(np.array([row[0] for row in rows], dtype="S"))
        contents.append(np.array([row[1] for row in rows], dtype="S"))
        signed += [(row[2], "".join(row[3:])) for row in rows if threshold is not None]
    names, content = np.concatenate(ids), np.concatenate(contents)
    _, first, same = np.unique(content, return_index=True, return_inverse=True)
    earliest = first[same]
    is_first = earliest == np.arange(len(content))
    dropped = {
        names[row].decode(): ["duplicate", f"the same content as {names[earliest[row]].decode()}"]
        for row in np.flatnonzero(~is_first).tolist()
    }
    groups: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(is_first).tolist() if signed else ():
        groups[signed[row][1]].append(row)
    for group in groups.values():
        near = near_duplicates(unpack(signed[row][0] for row in group), threshold or 1.0)
        for row, (other, alike) in near.items():
            dropped[names[group[row]].decode()] = ["near_duplicate", f"{alike:.2f} like {names[group[other]].decode()}"]
    return dropped
