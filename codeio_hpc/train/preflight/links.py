"""What ranks can only measure together: collectives over all of them, within a node, and between pairs of nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from codeio_hpc.train.preflight.measure import WrongResultError, rate
from codeio_hpc.train.world import World

STEPS = ("join", "all-reduce", "node_reduce", "link", "done")
"""In this order on every rank."""
MOST_ROUNDS = 7
"""Each node is paired with at most so many others, so that a thousand nodes take no longer than eight."""
_REDUCED = {"cuda": 2**28, "cpu": 2**22}
"""Bytes of an all-reduce, by kind of device; enough to be bound by bandwidth."""
_EXCHANGED = {"cuda": 2**27, "cpu": 2**22}
"""Bytes that one rank sends another."""

Rounds = list[list[tuple[str, str]]]


@dataclass(frozen=True)
class Together:
    """What this rank measured with others, in GB/s."""

    all_reduce: float
    figures: Mapping[str, float]
    links: Mapping[str, float]
    """Other node -> each way."""


def rounds(nodes: Sequence[str], most: int = MOST_ROUNDS) -> Rounds:
    """Who is paired with whom, round by round: each node is in at most one pair of a round, and in no pair twice.

    The circle method: one stays, the others move on by one place each round.
    """
    circle: list[str | None] = [*nodes, *([None] if len(nodes) % 2 else [])]
    count = len(circle) - 1
    every: Rounds = []
    for turn in range(count):
        placed = [circle[0], *(circle[1 + (place + turn) % count] for place in range(count))]
        pairs = [(placed[place], placed[-1 - place]) for place in range(len(placed) // 2)]
        every.append([(one, other) for one, other in pairs if one is not None and other is not None])
    return [every[index * count // most] for index in range(most)] if count > most else every


def measure_together(
    world: World, nodes: Mapping[int, str], store: Any, device: Any, seconds: float, begin: Callable[[str], None]
) -> Together:
    """Measure; all ranks call this.

    Args:
        nodes: of all ranks.
        store: where they meet.
        seconds: after which waiting for another rank is an error.
        begin: is told each step.

    Raises:
        WrongResultError: what arrived is not what was sent.
        RuntimeError: the ranks lost each other.
    """
    import torch
    import torch.distributed as dist

    begin("join")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # of this thread
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=world.rank,
        world_size=world.size,
        timeout=timedelta(seconds=seconds),
    )
    begin("all-reduce")
    everywhere = _all_reduce(device, None, range(world.size))
    begin("node_reduce")
    figures = {}
    for node in dict.fromkeys(nodes.values()):  # all ranks make all groups, in this order
        ranks = [rank for rank in sorted(nodes) if nodes[rank] == node]
        group = dist.new_group(ranks) if len(ranks) > 1 else None
        if group is not None and world.rank in ranks:
            figures["node_reduce"] = _all_reduce(device, group, ranks)
    begin("link")
    links = _links(world.rank, nodes, device)
    begin("done")
    return Together(everywhere, figures, links)


def _all_reduce(device: Any, group: Any, ranks: Sequence[int]) -> float:
    """Bus bandwidth in GB/s: 2 (n - 1) / n times the bytes over the time, which is what each link carries
    (nccl-tests, doc/PERFORMANCE.md)."""
    import torch
    import torch.distributed as dist

    size, count = _REDUCED[device.type], len(ranks)
    values = torch.full((size // 4,), float(dist.get_rank() + 1), device=device)
    dist.all_reduce(values, group=group)
    if not bool((values == sum(rank + 1 for rank in ranks)).all()):
        raise WrongResultError(f"a sum over {count} ranks is wrong")
    values.zero_()
    return rate(lambda: _reduce(values, group), 2 * (count - 1) / count * size, device) / 1e9


def _reduce(values: Any, group: Any) -> None:
    import torch.distributed as dist

    dist.all_reduce(values, group=group)


def _links(rank: int, nodes: Mapping[int, str], device: Any) -> dict[str, float]:
    """GB/s each way with every node that this one is paired with. All ranks of both nodes exchange at once, each with
    its counterpart, as they do in training; each may have a network card of its own."""
    ranks_of: dict[str, list[int]] = {}
    for each in sorted(nodes):
        ranks_of.setdefault(nodes[each], []).append(each)
    here = nodes[rank]
    place = ranks_of[here].index(rank)
    found = {}
    for pairs in rounds(list(ranks_of)):
        other = next((two[two[0] == here] for two in pairs if here in two), None)
        if other is not None and place < len(ranks_of[other]):
            found[other] = _exchange(rank, ranks_of[other][place], device)
    return found


def _exchange(rank: int, partner: int, device: Any) -> float:
    import torch
    import torch.distributed as dist

    size = _EXCHANGED[device.type]
    mine = torch.full((size // 4,), float(rank), device=device)
    theirs = torch.empty_like(mine)

    def both_ways() -> None:
        pair = [dist.P2POp(dist.isend, mine, partner), dist.P2POp(dist.irecv, theirs, partner)]
        for work in dist.batch_isend_irecv(pair):
            work.wait()

    each_way = rate(both_ways, size, device) / 1e9
    if not bool((theirs == partner).all()):
        raise WrongResultError(f"what rank {partner} sent arrived changed")
    return each_way
