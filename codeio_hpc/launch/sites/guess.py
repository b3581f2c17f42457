"""What each resource class may get on a cluster: the first combination that SLURM takes, the likeliest tried first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from codeio_hpc.config.site import ResourceClasses, Resources, Site
from codeio_hpc.launch.cluster import Cluster
from codeio_hpc.launch.sites.flags import sbatch_flags
from codeio_hpc.launch.slurm import Partition

_MOST_PARTITIONS = 3
"""That are tried for one resource class."""
_MOST_TRIES = 12
"""Of `sbatch --test-only` for one resource class on one partition; an ordinary site takes one to four."""
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
    first: Guess | None = None
    for partition in partitions[:_MOST_PARTITIONS]:
        others = tuple(other.name for other in partitions if other is not partition)
        for resources, refused in islice(_tries(name, partition, cluster, accounts, refusal), _MOST_TRIES):
            if refused is None:
                return Guess(resources, None, others)
            first = first or Guess(resources, refused, others)
    return first or Guess(None)


def _tries(
    name: str, partition: Partition, cluster: Cluster, accounts: Sequence[str], refusal: Refusal
) -> Iterator[tuple[Resources, str | None]]:
    """What is tried on a partition and what SLURM says to it, the likeliest first. A refusal strikes out the amount if
    it is about amounts, else the account."""
    most = 2 if name == "train" and partition.smallest(gpus=True).nodes > 1 else 1
    amounts = [(nodes, style) for nodes in range(most, 0, -1) for style in ("mem-per-cpu", "mem", "none")]
    names: list[str | None] = list(dict.fromkeys([None, *accounts, *partition.accounts]))
    at = 0
    while amounts and at < len(names):
        resources = _resources(name, cluster, partition, amounts[0][0], names[at], amounts[0][1])
        refused = refusal(sbatch_flags(_site_of(resources), "cpu"))
        yield resources, refused
        if _OF_AMOUNTS.search(refused or ""):
            del amounts[0]
        else:
            at += 1
        # a site that demands an account often says which
        names += [hint for hint in _ACCOUNT.findall(refused or "") if hint not in names]


_OF_AMOUNTS = re.compile(r"\bmem|node (count|configuration)|partition configuration|processors", re.IGNORECASE)
"""In a refusal: it is about memory or nodes."""
_ACCOUNT = re.compile(r"--account[= ]([A-Za-z0-9][\w.-]*)")


def _site_of(resources: Resources) -> Site:
    return Site(name="guess", resources=ResourceClasses(cpu=resources))


def _resources(
    name: str, cluster: Cluster, partition: Partition, nodes: int, account: str | None, style: str
) -> Resources:
    node = partition.smallest(gpus=name != "cpu")
    gpus = {"cpu": 0, "gpu": 1, "train": node.gpus}[name]
    ranks = gpus if name == "train" else 1
    cpus = (
        max(1, node.cpus // node.gpus) if gpus else node.cpus if cluster.whole_nodes(partition) else min(4, node.cpus)
    )
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
