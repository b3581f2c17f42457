"""What the node test measures, and what each rank reports of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One thing that is measured on every rank or node; more is better."""

    unit: str
    what: str
    floor: float | None = None
    """Less than this share of the median is too little; None: what the caller says."""


FIGURES = {
    "gemm": Figure("TFLOP/s", "matrix products: bf16 on a GPU, fp32 on a CPU"),
    "copy": Figure("GB/s", "memory copied within the device, bytes read and written"),
    "to_device": Figure("GB/s", "from pinned memory of the host to the GPU"),
    "from_device": Figure("GB/s", "from the GPU to pinned memory of the host"),
    # what a dead job still holds is missed by the training's last gigabyte, not by its last fifth
    "free_memory": Figure("GiB", "memory of the GPU that nobody holds", floor=0.95),
    # one file system serves all nodes: at the same moment it gives some of them a fraction of what it gives others
    "write": Figure("MB/s", "written to the run folder and synced, one rank a node", floor=0.25),
    "node_reduce": Figure("GB/s", "all-reduce among the ranks of one node (bus bandwidth)"),
    "link": Figure("GB/s", "to and from another node at once, each way"),
}
"""By name, in the order of the page."""


CPU = "CPU"
"""Name of the device where there is no GPU."""


@dataclass(frozen=True)
class Report:
    """What one rank found out."""

    rank: int
    node: str
    """As SLURM calls it."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Of :data:`FIGURES`, in their units; those that do not apply are left out."""
    problem: str | None = None
    """Why a measurement could not be made, or what was wrong."""


@dataclass(frozen=True)
class RankReport(Report):
    """What it found out alone."""

    device: str = ""
    """Its name; empty where it was not found out."""
    skew: float = 0.0
    """By how many seconds this node's clock is certainly off that of rank 0's node."""


@dataclass(frozen=True)
class LinkReport(Report):
    """What it found out together with others."""

    step: str = "join"
    """The last of :data:`codeio_hpc.train.preflight.links.STEPS` that it began."""
    links: Mapping[str, float] = field(default_factory=dict)
    """Other node -> GB/s each way, of those that were tried. The figure ``link`` is their median: one slow partner of
    several does not count."""
