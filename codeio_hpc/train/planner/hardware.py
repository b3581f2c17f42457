"""GPUs, and how many of them a training has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codeio_hpc.config.recipe import Device
from codeio_hpc.errors import UserError
from codeio_hpc.train.flops import peak_flops

if TYPE_CHECKING:
    from codeio_hpc.config.site import Site

_GIB = 2**30

RESERVED_BYTES = 1.5e9
RESERVED_SHARE = 0.04
"""What tensors cannot have: CUDA's context, NCCL's buffers and cuBLAS' workspaces, and what PyTorch's allocator loses
to fragmentation. Assumptions."""


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU, or a CPU that stands for one."""

    name: str
    memory: float | None
    """Bytes, as PyTorch reports them (``total_memory``); None: not known."""
    flops: float | None
    """Peak in the dtype of training, dense; None: not known."""
    device: Device = "cuda"

    @property
    def usable(self) -> float | None:
        """Bytes for tensors."""
        if self.memory is None or self.device == "cpu":
            return self.memory
        return (1 - RESERVED_SHARE) * self.memory - RESERVED_BYTES


GPUS = {
    "a100-40": Gpu("NVIDIA A100-SXM4-40GB", 39.4 * _GIB, peak_flops("NVIDIA A100-SXM4-40GB")),
    "a100-80": Gpu("NVIDIA A100-SXM4-80GB", 79.15 * _GIB, peak_flops("NVIDIA A100-SXM4-80GB")),
    "h100": Gpu("NVIDIA H100 80GB HBM3", 79.1 * _GIB, peak_flops("NVIDIA H100 80GB HBM3")),
    "h200": Gpu("NVIDIA H200", 139.7 * _GIB, peak_flops("NVIDIA H200")),
    "cpu": Gpu("CPU", None, None, "cpu"),
}
"""By the name that a plan asks for; memory as PyTorch's out-of-memory messages tell it ("total capacity")."""


@dataclass(frozen=True)
class Cluster:
    """What one training gets."""

    nodes: int
    gpus_per_node: int
    gpu: Gpu
    is_preempted: bool = True
    """Whether its jobs are preempted at all; a site's file says so."""

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node


def cluster_of(
    nodes: int | None,
    gpus_per_node: int | None,
    gpu: str | None,
    memory: float | None,
    teraflops: float | None,
    site: Site | None,
) -> Cluster:
    """The cluster that a person described; what is not said is taken from the site's class ``train``.

    Raises:
        UserError: nothing says which GPU it is, or a number is not above 0.
    """
    train = site.resources.train if site else None
    if site is not None and train is None:
        raise UserError(f"site '{site.name}' has no class 'train'", "a plan takes nodes and GPUs from it", "add it")
    if train is not None:
        nodes = train.nodes if nodes is None else nodes
        gpus_per_node = (train.gpus_per_node or train.ranks_per_node) if gpus_per_node is None else gpus_per_node
        gpu = gpu or (_of_the_site(train.gpu_type) if train.gpus_per_node else "cpu")
    nodes, gpus_per_node = 1 if nodes is None else nodes, 8 if gpus_per_node is None else gpus_per_node
    for option, value in (("--nodes", nodes), ("--gpus-per-node", gpus_per_node), ("--gpu-memory", memory),
                          ("--gpu-tflops", teraflops)):  # fmt: skip
        if value is not None and value <= 0:
            raise UserError(f"{option} {value:g}", "there is nothing to train on", "give a number above 0")
    is_preempted = train is None or train.preemption.mode != "off"
    return Cluster(nodes, gpus_per_node, _gpu(gpu, memory, teraflops), is_preempted)


def _of_the_site(gpu_type: str | None) -> str | None:
    """The site's own name for its GPU, if it is ours too ('a100' could be either)."""
    name = (gpu_type or "").lower().replace("_", "-").removesuffix("g").removesuffix("gb")
    return name if name in GPUS else None


def _gpu(name: str | None, memory: float | None, teraflops: float | None) -> Gpu:
    known = ", ".join(sorted(GPUS))
    if name is None and memory is None:
        raise UserError("no GPU is named", "its memory decides what fits", f"--gpu {known.replace(', ', '|')}")
    if name is not None and name not in GPUS:
        fix = f"one of {known}; or --gpu-memory BYTES --gpu-tflops TFLOPS"
        raise UserError(f"--gpu {name}", "its memory and speed are not known", fix)
    base = GPUS[name] if name is not None else Gpu("this GPU", None, None)
    flops = base.flops if teraflops is None else teraflops * 1e12
    return Gpu(base.name, base.memory if memory is None else memory, flops, base.device)
