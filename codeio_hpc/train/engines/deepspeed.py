"""DeepSpeed ZeRO-2: optimiser state and gradients are divided among the ranks."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codeio_hpc.config.recipe import DType, StageRecipe
from codeio_hpc.errors import RunFailedError
from codeio_hpc.train.collate import IGNORED, MicroBatch, forward, predicting
from codeio_hpc.train.engines.base import StepResult
from codeio_hpc.train.schedule import learning_rate
from codeio_hpc.train.world import World

_TAG = "engine"


def join(world: World) -> Any:
    """Meet the other ranks; the torch device of this one."""
    world.export()
    import torch

    cuda = torch.cuda.is_available()
    if not cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    os.environ.setdefault("DS_SKIP_CUDA_CHECK", "1")
    import deepspeed
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Its shared-memory collectives are compiled at the first start (half a minute, needs a compiler) and not needed.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if cuda:
        torch.cuda.set_device(world.local_rank)
    backend = "nccl" if cuda else "gloo"
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)
    return torch.device("cuda", world.local_rank) if cuda else torch.device("cpu")


class DeepSpeedEngine:
    """See :class:`codeio_hpc.train.engines.base.Engine`. Call :func:`join` first."""

    def __init__(
        self, model: Any, stage: StageRecipe, total_steps: int, dtype: DType, world: World, device: Any
    ) -> None:
        import deepspeed
        import torch

        self.device = device
        self._world = world
        self._half = dtype == "float16"
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=stage.lr, betas=stage.betas, weight_decay=stage.weight_decay
        )

        def schedule(optimiser: Any) -> Any:
            return torch.optim.lr_scheduler.LambdaLR(
                optimiser, lambda step: learning_rate(stage, step, total_steps) / stage.lr
            )

        self._engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimiser, lr_scheduler=schedule, config=_config(stage, dtype)
        )
        _restore_buffers(self._engine.module, buffers)

    @property
    def module(self) -> Any:
        return self._engine.module

    def step(self, batch: Sequence[MicroBatch], targets: int, notice: bool) -> StepResult:
        import torch

        lr = float(self._engine.get_lr()[0])
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        total[1] = float(notice)
        for number, micro in enumerate(batch, start=1):
            self._engine.set_gradient_accumulation_boundary(number == len(batch))
            loss = self._loss(micro) / max(1, targets)
            total[0] += loss.detach()
            self._engine.backward(loss * self._world.size)  # DeepSpeed averages the ranks' gradients
        torch.distributed.all_reduce(total)
        value = float(total[0])
        if not math.isfinite(value):
            raise RunFailedError(f"the loss is {value}; nothing was changed by this step and nothing is saved of it")
        self._engine.step()
        return StepResult(value, lr, self._grad_norm(), bool(total[1] > 0))

    def _loss(self, micro: MicroBatch) -> Any:
        """Summed cross entropy of the trained tokens, in float32."""
        import torch

        keep = predicting(micro.labels)
        logits = forward(self._engine, micro, self.device, keep)
        labels = micro.labels[:, keep + 1].to(self.device)
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def _grad_norm(self) -> float | None:
        if self._half and not self._engine.was_step_applied():
            return None
        norm = float(self._engine.get_global_grad_norm())
        if not math.isfinite(norm):
            raise RunFailedError(f"the gradient's norm is {norm}; the last checkpoint is the one to go on from")
        return norm

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False, exclude_frozen_parameters=False)

    def load(self, folder: Path) -> None:
        found, _ = self._engine.load_checkpoint(str(folder), tag=_TAG)
        if found is None:
            raise RunFailedError(f"{folder}: DeepSpeed does not find its state there")

    def export(self, folder: Path) -> None:
        if self._world.rank == 0:
            self.module.config.use_cache = True
            self.module.save_pretrained(folder)

    def gather(self, value: Any) -> list[Any]:
        import torch

        values: list[Any] = [None] * self._world.size
        torch.distributed.all_gather_object(values, value)
        return values

    def close(self) -> None:
        import torch

        self._engine.destroy()
        torch.distributed.destroy_process_group()


def _config(stage: StageRecipe, dtype: DType) -> dict[str, Any]:
    """Accumulation is steered by hand (its length follows the batch), so DeepSpeed is told of none."""
    return {
        "train_micro_batch_size_per_gpu": stage.micro_batch,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": 2},
        "gradient_clipping": stage.clip,
        "bf16": {"enabled": dtype == "bfloat16"},
        "fp16": {"enabled": dtype == "float16"},
        "steps_per_print": sys.maxsize,
        "wall_clock_breakdown": False,
    }


def _restore_buffers(model: Any, buffers: dict[str, Any]) -> None:
    """Undo DeepSpeed's cast of buffers: rotary frequencies in half precision put long positions in the wrong place."""
    for name, value in buffers.items():
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        module._buffers[leaf] = value.to(module._buffers[leaf].device)
