"""What to change about a training that does not fit into its GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from codeio_hpc.train.planner.hardware import GPUS, Cluster
from codeio_hpc.train.planner.load import Load
from codeio_hpc.train.planner.memory import fullest

MOST_GPUS = 1024
"""Clusters that are looked at."""


@dataclass(frozen=True)
class Change:
    """What to do otherwise."""

    how: str
    """As the command line takes it."""
    bytes: float
    """A rank holds then at its fullest."""


def changes_that_help(load: Load, stage: str, cluster: Cluster, sequences: float | None) -> list[Change]:
    """Changes after which it fits: of one setting, of the number of nodes, of both, of all settings; and other GPUs.

    Args:
        sequences: of a global batch, if known: more ranks than that cannot share it.
    """
    if cluster.gpu.usable is None:
        return []
    settings = list(_settings(load, stage))
    helps = list(_fitting(settings, cluster.gpu.usable))
    fitting = {change.how for change in helps}
    others = [(how, other) for how, other in [("", load), *settings] if how not in fitting]
    helps += _on_more_nodes(others, cluster, sequences)
    if not helps and settings:
        everything = [(" ".join(how for how, _ in settings), _together(load, settings))]
        helps = list(_fitting(everything, cluster.gpu.usable)) or _on_more_nodes(everything, cluster, sequences)
    return helps + _on_larger_gpus(load, cluster)


def _settings(load: Load, stage: str) -> Iterator[tuple[str, Load]]:
    """Single settings of the recipe that save memory, the cheapest in time first."""
    if load.attention == "eager":
        kind = "flash_attention_2" if load.facts.architecture == "Gemma2ForCausalLM" else "varlen"
        yield f"attention={kind}", replace(load, attention=kind)
    if load.rows > 1:
        yield f"stages.{stage}.micro_batch=1", replace(load, rows=1)
    if not load.checkpointing:
        yield "activation_checkpointing=true", replace(load, checkpointing=True)
    if load.zero == 2 and load.ranks > 1:
        yield "zero=3", replace(load, zero=3)


def _together(load: Load, settings: list[tuple[str, Load]]) -> Load:
    changed: dict[str, Any] = {}
    for _, other in settings:
        changed |= {name: value for name, value in vars(other).items() if value != getattr(load, name)}
    return replace(load, **changed)


def _fitting(settings: list[tuple[str, Load]], usable: float) -> Iterator[Change]:
    for how, load in settings:
        needed = fullest(load).bytes
        if needed <= usable:
            yield Change(how, needed)


def _on_more_nodes(settings: list[tuple[str, Load]], cluster: Cluster, sequences: float | None) -> list[Change]:
    """The smallest number of nodes on which each fits; only those that need fewer than the ones before them."""
    found: list[Change] = []
    most = MOST_GPUS if sequences is None else min(MOST_GPUS, int(sequences / settings[0][1].rows))
    fewest = most // cluster.gpus_per_node + 1
    for how, load in settings:
        for nodes in range(cluster.nodes + 1, fewest):
            change = Change(
                f"{how} --nodes {nodes}".strip(), fullest(replace(load, ranks=nodes * cluster.gpus_per_node)).bytes
            )
            if change.bytes <= (cluster.gpu.usable or 0):
                found, fewest = [*found, change], nodes
                break
    return found


def _on_larger_gpus(load: Load, cluster: Cluster) -> list[Change]:
    """The smallest known GPU of more memory into which it fits."""
    needed = fullest(load).bytes
    larger = sorted(
        (gpu.memory, name)
        for name, gpu in GPUS.items()
        if gpu.memory and gpu.usable and gpu.memory > (cluster.gpu.memory or 0) and gpu.usable >= needed
    )
    return [Change(f"--gpu {larger[0][1]}", needed)] if larger else []
