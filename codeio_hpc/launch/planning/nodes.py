"""The cluster of a simulated build: what is assumed of it, its nodes, and when they end what runs on them."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from pydantic import Field

from codeio_hpc.config.load import Settings


class Assumed(Settings):
    """What a site file does not say, because nobody knows it beforehand. Each value is an assumption, to be replaced by
    whoever knows better."""

    nodes: int | None = Field(default=None, ge=1)
    """That may work for this run; None: as many as its tasks need."""
    tasks_per_node: int = Field(default=8, ge=1)
    """Tasks that run on a node at the same time."""
    queue_seconds: float = Field(default=60, ge=0)
    """From the moment that a job may start until SLURM starts it."""
    start_seconds: float = Field(default=3, ge=0)
    """From the start of a task to its first shard: interpreter, imports, sandboxes."""
    steer_seconds: float = Field(default=5, ge=0)
    """What a job that steers on takes, beside ``steer_shard_seconds``."""
    steer_shard_seconds: float = Field(default=0.0045, ge=0)
    """What it takes for each shard of the run, to read the footers of all stages and make decisions."""
    spread: float = Field(default=0.9, ge=0)
    """Of what shards of a step cost: the standard deviation of its logarithm (they are lognormally distributed). With
    0.9 the slowest of 18 takes 3.4 times the mean; 2.8 to 5.5 times were measured in the stages that take long."""
    preemptions: float = Field(default=0.05, ge=0)
    """Of a running task in an hour, where the site preempts at all."""
    requeue_seconds: float = Field(default=150, ge=0)
    """Until a requeued task may start again; the place of a preempted one is another job's for as long. SLURM itself
    waits for 120 s and a scheduling cycle (slurm.conf(5), AuthInfo, cred_expire)."""
    slow_nodes: float = Field(default=0.02, ge=0, le=1)
    """Share of nodes that are slower than the others."""
    slowness: float = Field(default=3, ge=1)
    """How many times longer everything takes there."""
    bad_nodes: float = Field(default=0.005, ge=0, le=1)
    """Share of nodes on which tasks are killed."""
    bad_node_seconds: float = Field(default=300, gt=0)
    """How long a task lives there, on average."""
    node_failures: float = Field(default=0.01, ge=0)
    """Of one node in 24 hours: SLURM loses sight of it, and starts its tasks anew elsewhere."""
    repair_seconds: float = Field(default=3600, ge=0)
    """Until such a node is back."""

    def calm(self) -> Assumed:
        """The same cluster without faults."""
        return self.model_copy(update={"preemptions": 0.0, "slow_nodes": 0.0, "bad_nodes": 0.0, "node_failures": 0.0})


class Death(NamedTuple):
    """What ends an attempt, unless it ends by itself before."""

    after: float
    """Seconds since its start; infinite where nothing does."""
    cause: str
    """One of :data:`codeio_hpc.launch.causes.CAUSES`."""
    place_taken: float = 0.0
    """For how many more seconds its place on the node is not free."""


@dataclass
class Node:
    """One node; times in seconds since the build was started."""

    number: int
    slowness: float
    is_bad: bool
    fails_at: float
    """When SLURM loses sight of it next."""

    @property
    def name(self) -> str:
        """As SLURM would call it."""
        return f"n{self.number:05d}"


class Nodes:
    """Nodes with places for tasks. Of several, SLURM takes the first (select/cons_tres, nodes of equal weight): a node
    on which everything dies at once gets the next task, and the next.

    Args:
        places: so many are needed at the same time.
    """

    def __init__(self, assumed: Assumed, places: int, chance: Random) -> None:
        self._assumed, self._chance = assumed, chance
        number = assumed.nodes or -(-places // assumed.tasks_per_node)
        order = chance.sample(range(number), number)
        slow = set(order[: round(assumed.slow_nodes * number)])
        bad = set(order[number - round(assumed.bad_nodes * number) :])
        self.all = [
            Node(
                each,
                assumed.slowness if each in slow else 1.0,
                each in bad,
                self._until(assumed.node_failures / 86_400),
            )
            for each in range(number)
        ]
        self._free = [each for each in range(number) for _ in range(assumed.tasks_per_node)]

    def _until(self, rate: float) -> float:
        """Seconds until something happens that happens so often a second."""
        return self._chance.expovariate(rate) if rate else math.inf

    def take(self, now: float, exclude: Collection[str]) -> Node | None:
        """A free place on a node that works and is not left out; None: there is none now."""
        aside, found = list[int](), None
        while self._free and found is None:
            node = self.all[heapq.heappop(self._free)]
            while node.fails_at + self._assumed.repair_seconds <= now:
                node.fails_at += self._assumed.repair_seconds + self._until(self._assumed.node_failures / 86_400)
            if node.name in exclude or node.fails_at <= now:
                aside.append(node.number)
            else:
                found = node
        for number in aside:
            heapq.heappush(self._free, number)
        return found

    def give_back(self, node: Node) -> None:
        """A place is free again."""
        heapq.heappush(self._free, node.number)

    def next_repair(self, now: float) -> float:
        """When the first of the nodes that are down is back."""
        return min(node.fails_at + self._assumed.repair_seconds for node in self.all if node.fails_at <= now)

    def death(self, node: Node, now: float) -> Death:
        """What will end an attempt that starts now on this node. Drawn at its start: nothing that happens to others
        changes it."""
        assumed = self._assumed
        killed_so_often = 1 / assumed.bad_node_seconds if node.is_bad else 0.0
        return min(
            Death(self._until(assumed.preemptions / 3600), "preempted", assumed.requeue_seconds),
            Death(self._until(killed_so_often), "killed"),
            Death(node.fails_at - now, "node", assumed.repair_seconds),
        )
