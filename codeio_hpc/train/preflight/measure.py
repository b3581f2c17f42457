"""What one rank can measure alone: its device, and the run folder as it is seen from here."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codeio_hpc.train.preflight.figures import CPU

REPETITIONS = 7
"""Of each measurement; the median counts, as the first ones warm up clocks and caches."""
CHECKS = 10
"""How often the same product is computed again, to see the same bits."""


class WrongResultError(RuntimeError):
    """A device computed something else than it should."""


@dataclass(frozen=True)
class Sizes:
    """How much is done for one repetition of each measurement."""

    gemm: int
    """Rows and columns of the square matrices."""
    products: int
    """Of these in a row, so that starting them costs nothing beside them."""
    copied: int
    """Bytes."""
    written: int
    """Bytes."""
    exact: int
    """Rows and columns of the product whose result is known. Enough for every processor of a GPU to have a part."""


SIZES = {
    "cuda": Sizes(gemm=8192, products=20, copied=2**30, written=2**28, exact=2048),  # some seconds on an A100
    "cpu": Sizes(gemm=768, products=1, copied=2**26, written=2**24, exact=512),
}
"""By kind of device."""
_TRANSFERRED = 2**28
"""Bytes from and to the GPU."""
_BLOCK = 2**22
"""Bytes handed to write() at once: the stripe of a parallel file system is 1 to 4 MiB as a rule."""


def choose_device(local_rank: int) -> Any:
    """The torch device of this rank, as training chooses it: GPU number ``local_rank``, or the CPU where there is none.

    Raises:
        WrongResultError: there are GPUs, but not that one.
    """
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise WrongResultError(f"no GPU {local_rank}: this node shows {torch.cuda.device_count()}")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def describe(device: Any) -> str:
    """The device's own name."""
    import torch

    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else CPU


def measure(device: Any, folder: Path | None, begin: Callable[[str], None]) -> dict[str, float]:
    """All figures of this rank.

    Args:
        folder: where to write; None: another rank of this node does.
        begin: is told what is measured next.

    Raises:
        WrongResultError: the device computes wrongly.
        OSError: the folder cannot be written to.
        RuntimeError: the device fails.
    """
    sizes = SIZES[device.type]
    figures = {}
    if device.type == "cuda":
        begin("free_memory")
        figures["free_memory"] = free_memory(device)
        begin("to_device")
        figures["to_device"], figures["from_device"] = transfers(device)
    begin("gemm")
    figures["gemm"] = gemm(device, sizes)
    begin("exact product")
    check_exact_product(device, sizes)
    begin("copy")
    figures["copy"] = copy(device, sizes)
    if folder is not None:
        begin("write")
        figures["write"] = write(folder, sizes)
    return figures


def rate(work: Callable[[], None], amount: float, device: Any) -> float:
    """``amount`` a second: the median over :data:`REPETITIONS` of ``work``, done once before."""
    work()
    synchronise(device)
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return amount / statistics.median(seconds)


def synchronise(device: Any) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gemm(device: Any, sizes: Sizes) -> float:
    """TFLOP/s of matrix products of random numbers, which toggle more bits, and so take more power, than a pattern.

    Raises:
        WrongResultError: the same product, computed again on the warm device, has other bits.
    """
    import torch

    size, dtype = sizes.gemm, torch.bfloat16 if device.type == "cuda" else torch.float32
    chance = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(size, size, generator=chance, device=device, dtype=dtype) for _ in range(2))
    result = left @ right
    first = result.clone()

    def products() -> None:
        for _ in range(sizes.products):
            torch.mm(left, right, out=result)

    flops = rate(products, 2 * size**3 * sizes.products, device)
    for _ in range(CHECKS):
        torch.mm(left, right, out=result)
        if not torch.equal(result, first):
            raise WrongResultError("the same matrix product has other bits when it is computed again")
    return flops / 1e12


def check_exact_product(device: Any, sizes: Sizes) -> None:
    """Compare a matrix product with the one that this host computes in another precision.

    Its numbers are -1, 0 and 1, and its sums stay below 256: bf16 holds all of them, in whatever order they are added.

    Raises:
        WrongResultError: they differ.
    """
    import torch

    chance = torch.Generator().manual_seed(1)
    left, right = (torch.randint(-1, 2, (sizes.exact, sizes.exact), generator=chance) for _ in range(2))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    got = (left.to(device, dtype) @ right.to(device, dtype)).cpu().double()
    wrong = int((got != left.double() @ right.double()).sum())
    if wrong:
        raise WrongResultError(f"{wrong} of {got.numel()} elements of a matrix product are wrong")


def copy(device: Any, sizes: Sizes) -> float:
    """GB/s of a copy within the device's memory, reading and writing counted."""
    import torch

    source = torch.ones(sizes.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return rate(lambda: _into(target, source), 2 * sizes.copied, device) / 1e9


def transfers(device: Any) -> tuple[float, float]:
    """GB/s to and from the GPU."""
    import torch

    host = torch.ones(_TRANSFERRED, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device=device)
    to_device = rate(lambda: _into(there, host), _TRANSFERRED, device) / 1e9
    return to_device, rate(lambda: _into(host, there), _TRANSFERRED, device) / 1e9


def _into(target: Any, source: Any) -> None:
    target.copy_(source, non_blocking=True)


def free_memory(device: Any) -> float:
    """GiB of the GPU's memory that neither this process nor any other holds."""
    import torch

    return float(torch.cuda.mem_get_info(device)[0]) / 2**30


def write(folder: Path, sizes: Sizes) -> float:
    """MB/s into a new file, synced to the disk: what a checkpoint is written with. The median of three files."""
    block, seconds = os.urandom(_BLOCK), []
    path = folder / f".preflight-{os.uname().nodename}-{os.getpid()}"
    try:
        for _ in range(3):
            start = time.perf_counter()
            with open(path, "wb", buffering=0) as file:
                for _ in range(max(1, sizes.written // _BLOCK)):
                    file.write(block)
                os.fsync(file.fileno())
            seconds.append(time.perf_counter() - start)
    finally:
        path.unlink(missing_ok=True)
    return max(sizes.written, _BLOCK) / statistics.median(seconds) / 1e6
