"""``codeio`` in a process that trains with megatron-core, on CPUs.

python tests/train/with_megatron.py train RUN --stage stage1

megatron-core asks for CUDA by name even where nothing of it needs CUDA. For tests only, ``cuda`` means the CPU here;
Transformer Engine, its kernels and everything that overlaps on a GPU are not tried by this.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

sys.path[0] = str(Path(__file__).parents[2])  # instead of this file's folder
os.environ["DS_ACCELERATOR"] = "cpu"


class CudaMeansCpu(TorchFunctionMode):
    """Tensors that are asked for on ``cuda`` are made on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return func(*args, **(kwargs | {"device": "cpu"} if kwargs.get("device") == "cuda" else kwargs))


def put_megatron_on_the_cpu() -> None:
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment,return-value]
    torch.cuda.synchronize = lambda device=None: None
    CudaRNGStatesTracker.fork = lambda self, name="": nullcontext()  # it keeps states of CUDA generators


def main() -> int:
    warnings.filterwarnings("ignore", module="megatron")
    put_megatron_on_the_cpu()
    from codeio_hpc import cli
    from codeio_hpc.train import loop
    from tests.train.megatron_engine import MegatronEngine

    def open_engine(plan: Any, ranks: Any, dtype: Any, model: Any, saved: str | None) -> Any:
        return MegatronEngine(model, plan.stage, dtype, ranks.device, saved)

    loop.open_engine = open_engine
    with CudaMeansCpu():
        return cli.main()


if __name__ == "__main__":
    sys.exit(main())
