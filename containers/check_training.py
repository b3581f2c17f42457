"""The part of train.def's %test that needs Python: what is installed fits together, sees the GPU, and takes a step.

Run by itself it checks any other environment:  python containers/check_training.py
"""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from pathlib import Path

DRIVER = Path("/.singularity.d/libs/libcuda.so.1")
"""Where Apptainer puts the node's driver, with --nv."""


def main() -> int:
    """Print versions and take one optimiser step of ZeRO-2; the exit code."""
    import datasets
    import torch
    import transformers

    cuda = torch.cuda.is_available()
    if not cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    print(f"torch {torch.__version__}, deepspeed {deepspeed.__version__}")
    print(f"transformers {transformers.__version__}, datasets {datasets.__version__}")
    if torch.version.cuda:
        print(f"CUDA {torch.version.cuda}, NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}")
    if importlib.util.find_spec("flash_attn"):
        print(f"flash-attn {importlib.import_module('flash_attn').__version__}")
    if torch.version.cuda and DRIVER.exists() and not cuda:
        print(
            "this node has a driver, but its CUDA is too old, or its GPU is not usable: codeio doctor", file=sys.stderr
        )
        return 1
    print(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}" if cuda else "no GPU: on the CPU")
    before, after = _train("cuda" if cuda else "cpu")
    print(f"ZeRO-2 in bf16: loss {before:.4f}, after five steps {after:.4f}")
    return 0 if after < before else 1


def _train(device: str) -> tuple[float, float]:
    """The loss of a linear map before and after five steps."""
    import deepspeed
    import deepspeed.ops
    import torch

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else it is compiled first, for half a minute
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 64)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
        dist_init_required=True,
        config={
            "train_micro_batch_size_per_gpu": 8,
            "zero_optimization": {"stage": 2},
            "bf16": {"enabled": True},
            "zero_allow_untested_optimizer": True,
        },
    )
    inputs = torch.randn(8, 64, device=device, dtype=torch.bfloat16)
    losses = []
    for _ in range(6):
        loss = (engine(inputs) - inputs).float().pow(2).mean()
        losses.append(loss.item())
        engine.backward(loss)
        engine.step()
    return losses[0], losses[-1]


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of gloo abort the interpreter's teardown now and then
