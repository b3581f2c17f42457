"""A cluster as SLURM 22.05 describes it (tools/slurm-in-a-box), and variations of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from codeio_hpc.config import parse
from codeio_hpc.config.site import Site
from codeio_hpc.launch.cluster import Cluster
from codeio_hpc.launch.slurm import partitions_in, settings_in

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def cluster(**settings: str) -> Cluster:
    """The recorded cluster, with settings of slurm.conf replaced."""
    found = settings_in(recorded("config.txt"))
    return Cluster({**found, **settings}, tuple(partitions_in(recorded("partitions.txt"), recorded("nodes.txt"))))


def with_partition(base: Cluster, name: str, **changes: Any) -> Cluster:
    """The cluster with one of its partitions changed."""
    changed = tuple(replace(each, **changes) if each.name == name else each for each in base.partitions)
    return Cluster(base.settings, changed)


PREEMPTION = {"mode": "requeue", "grace_seconds": 0, "warned": True}


def site(cpu: dict[str, Any] | None = None, train: dict[str, Any] | None = None, **settings: Any) -> Site:
    """A site file that is right for the recorded cluster, with settings replaced."""
    classes = {
        "cpu": {"partition": "scavenge", "time": "30m", "preemption": PREEMPTION, **(cpu or {})},
        "train": {
            "partition": "gpu_low",
            "account": "research",
            "nodes": 2,
            "ranks_per_node": 2,
            "gpus_per_node": 2,
            "time": "30m",
            "preemption": PREEMPTION,
            **(train or {}),
        },
    }
    return parse(Site, {"name": "s", "resources": classes, **settings}, "s.yaml")
