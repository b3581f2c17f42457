"""What each resource class may get on a cluster: the first combination that SLURM takes, the likeliest tried first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from codeio_hpc.config.site import ResourceClasses, Resources, Site
from codeio_hpc.launch.cluster import Cluster
from codeio_hpc.launch.site_flags import sbatch_flags
from codeio_hpc.launch.slurm import Partition

_MOST_TRIES = 24
"""Of `sbatch --test-only` for one resource class; an ordinary site takes one to four."""
_ROOM = 0.9
"""Of a node's memory that is asked for: SLURM counts some of it as the system's on many sites."""

Refusal = Callable[[Sequence[str]], str | None]
"""Why SLURM would refuse a job with these flags; None if it takes it."""


@dataclass(frozen=True)
class Guess:
    """What one resource class gets, and what SLURM said to it."""

    resources: Resources | None
    """None: this cluster has no such partition."""
    refused: str | None = None
    """Why SLURM would not take it; None if it would."""
    others: tuple[str, ...] = ()
    """Partitions that would do as well."""


def guess_classes(cluster: Cluster, accounts: Sequence[str], refusal: Refusal) -> dict[str, Guess]:
    """For each resource class the first combination that SLURM takes."""
    known = list(accounts)
    guesses = {}
    for name in ResourceClasses.model_fields:
        guess = _first_accepted(name, ranked(cluster, gpus=name != "cpu"), cluster, known, refusal)
        if guess.resources and guess.resources.account and not guess.refused:
            known.insert(0, guess.resources.account)
        guesses[name] = guess
    return guesses


def ranked(cluster: Cluster, gpus: bool) -> list[Partition]:
    """Partitions with (or without) GPUs, the best guess first.

    All work here resumes, so partitions whose jobs may be requeued come first: they are there for such work, and it
    starts sooner. Then the cluster's default, then the largest; those that cancel preempted jobs come last.
    """
    modes = ("requeue", "off", "cancel")
    fitting = [each for each in cluster.partitions if any(bool(kind.gpus) == gpus for kind in each.kinds)]
    if not fitting and not gpus:  # every node has GPUs
        fitting = [each for each in cluster.partitions if each.kinds]
    return sorted(
        fitting,
        key=lambda each: (
            modes.index(cluster.preemption(each).mode),
            not each.is_default,
            -each.smallest(gpus).nodes,
            each.name,
        ),
    )


def _first_accepted(
    name: str, partitions: Sequence[Partition], cluster: Cluster, accounts: Sequence[str], refusal: Refusal
) -> Guess:
    first: tuple[Resources, str] | None = None
    others = tuple(partition.name for partition in partitions)
    hints: list[str] = []
    for resources in islice(_candidates(name, partitions, cluster, accounts, hints), _MOST_TRIES):
        refused = refusal(sbatch_flags(_site_of(resources), "cpu"))
        if refused is None:
            return Guess(resources, None, tuple(other for other in others if other != resources.partition))
        first = first or (resources, refused)
        # a site that demands an account often says which
        hints += re.findall(r"--account[= ]([A-Za-z0-9][\w.-]*)", refused)
    return Guess(*first, others) if first else Guess(None)


def _candidates(
    name: str, partitions: Sequence[Partition], cluster: Cluster, accounts: Sequence[str], hints: list[str]
) -> Iterator[Resources]:
    """What may be tried, the likeliest first. ``hints`` grows meanwhile, by accounts that refusals name."""
    for partition, nodes in _shapes(name, partitions):
        seen: set[str | None] = set()
        for account in chain([None], accounts, partition.accounts, hints):
            if account in seen:
                continue
            seen.add(account)
            for style in ("mem-per-cpu", "mem", "none"):
                yield _resources(name, cluster, partition, nodes, account, style)


def _shapes(name: str, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, int]]:
    for partition in partitions[:3]:
        if name == "train" and partition.smallest(gpus=True).nodes > 1:
            yield partition, 2
        yield partition, 1


def _site_of(resources: Resources) -> Site:
    return Site(name="guess", resources=ResourceClasses(cpu=resources))


def _resources(
    name: str, cluster: Cluster, partition: Partition, nodes: int, account: str | None, style: str
) -> Resources:
    node = partition.smallest(gpus=name != "cpu")
    gpus = {"cpu": 0, "gpu": 1, "train": node.gpus}[name]
    ranks = gpus if name == "train" else 1
    cpus = max(1, node.cpus // node.gpus) if gpus else min(4, node.cpus)
    each = int(_ROOM * node.memory_mb / node.cpus)
    if name == "cpu":
        each = min(each, 4096)
    megabytes = {"mem-per-cpu": each, "mem": each * cpus * ranks}.get(style)
    hours = {"cpu": 4, "gpu": 2, "train": 24}[name]
    minutes = min(60 * hours, partition.minutes or 60 * hours)
    facts: dict[str, Any] = {
        "partition": partition.name,
        "account": account,
        "nodes": nodes,
        "ranks_per_node": ranks,
        "gpus_per_node": gpus,
        "gpu_flag": "gpus-per-node" if (cluster.setting("SelectType") or "").endswith("cons_tres") else "gres",
        "cpus_per_rank": cpus,
        "memory": {"style": style, "value": f"{megabytes}M"} if megabytes else {"style": "none"},
        "time": f"{minutes}m",
        "preemption": cluster.preemption(partition),
    }
    return Resources.model_validate(facts)
