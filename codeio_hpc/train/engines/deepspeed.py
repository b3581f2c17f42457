"""DeepSpeed ZeRO: optimiser state and gradients, or the weights too, are divided among the ranks."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import os
import shutil
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from codeio_hpc.config.recipe import DType, Recipe, StageRecipe
from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.train.collate import MicroBatch
from codeio_hpc.train.engines.base import Part, Update
from codeio_hpc.train.engines.zero import LOWEST_SCALE, engine_config
from codeio_hpc.train.forward import CHUNK, Network, evaluating
from codeio_hpc.train.proof import probe_loss

_TAG = "engine"


class DeepSpeedEngine:
    """See :class:`codeio_hpc.train.engines.base.Engine`. The ranks have met (:func:`codeio_hpc.train.meeting.meet`)."""

    def __init__(
        self, model: Any, recipe: Recipe, stage: StageRecipe, dtype: DType, device: Any, saved: str | None = None
    ) -> None:
        """``saved``: the layout of what :meth:`load` will be given; that of another number of ranks is possible.

        Raises:
            UserError: any other is not.
        """
        self.data_parallel_rank = torch.distributed.get_rank()
        self.data_parallel_size = torch.distributed.get_world_size()
        self.layout = _layout(recipe.zero, self.data_parallel_size)
        self._universal = saved is not None and needs_conversion(saved, self.layout)
        deepspeed = import_deepspeed(device)
        self.device, self.dtype = device, getattr(torch, dtype)
        self.config = model.config
        # counted before ZeRO-3 leaves nothing of them in their places
        self.parameter_count = sum(each.numel() for each in model.parameters())
        self._half = dtype == "float16"
        slots = stage.micro_batch * (stage.sequence_length or recipe.sequence_length)
        network = Network(model, max(1, -(-slots // CHUNK)) if recipe.zero == 3 else None)
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        optimiser = torch.optim.AdamW(
            network.parameters(),
            lr=stage.lr,
            betas=stage.betas,
            weight_decay=stage.weight_decay,
            fused=device.type == "cuda",
        )
        config = engine_config(recipe, stage, dtype, self._universal)
        if recipe.zero == 3:
            # weight by weight: initialize() puts the whole model on every GPU before it divides it, 141 GB for 70B
            deepspeed.zero.Init(module=network, config_dict_or_path=config, dtype=self.dtype)
        self._engine, *_ = deepspeed.initialize(model=network, optimizer=optimiser, config=config)
        self._stopwatch = _Stopwatch(device)
        _restore_buffers(self._engine.module, buffers, device)
        _quieten(self._engine)

    @property
    def _network(self) -> Network:
        network: Network = self._engine.module
        return network

    def logits(self, micro: MicroBatch) -> Any:
        return self._network.logits(micro)

    def probe_loss(self) -> None:
        probe_loss(self._network)

    def loss(self, micro: MicroBatch) -> float:
        with evaluating(self._network):
            return float(self._loss(micro))

    def accumulate(self, micro: MicroBatch, targets: int, last: bool) -> Any:
        self._engine.set_gradient_accumulation_boundary(last)
        with self._stopwatch:
            loss = self._loss(micro) / max(1, targets)
        self._engine.backward(loss * self.data_parallel_size)  # DeepSpeed averages the ranks' gradients
        return loss.detach()

    def forward_seconds(self) -> float:
        return self._stopwatch.seconds()

    def _loss(self, micro: MicroBatch) -> Any:
        tensors = (micro.input_ids, micro.position_ids, micro.predicting, micro.targets, micro.borders)
        return self._engine(*(each.to(self.device, non_blocking=True) for each in tensors), micro.longest)

    def update(self, lr: float) -> Update:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()
        scale = float(self._engine.optimizer.loss_scale) if self._half else 1.0
        if not self._engine.was_step_applied():
            if self._half and scale <= LOWEST_SCALE:
                raise RunFailedError(
                    f"float16: the loss scale has collapsed to {scale:g}; this model's gradients or activations are "
                    "beyond what float16 holds (Gemma's are). Set dtype: {cuda: bfloat16} in the recipe"
                )
            return Update(False, math.inf, scale)
        return Update(True, float(self._engine.get_global_grad_norm()), scale)

    def snapshot(self, folder: Path) -> list[Part]:
        copies = _Copies()
        usual, self._engine.checkpoint_engine = self._engine.checkpoint_engine, copies
        try:
            self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False)
        finally:
            self._engine.checkpoint_engine = usual
        return copies.parts

    def load(self, folder: Path) -> None:
        converted = folder.with_name(f".{folder.name}.universal")
        if self._universal:
            _convert(folder / _TAG, converted)
        found, _ = self._engine.load_checkpoint(str(converted if self._universal else folder), tag=_TAG)
        if found is None:
            raise RunFailedError(f"{folder}: DeepSpeed does not find its state there")
        if self._universal:
            torch.distributed.barrier()
            if not torch.distributed.get_rank():
                shutil.rmtree(converted)

    def export(self, folder: Path) -> None:
        weights = self._engine._zero3_consolidated_16bit_state_dict() if self._divides_weights() else None
        if torch.distributed.get_rank():
            return
        if weights is not None:
            weights = {name.removeprefix("model."): value for name, value in weights.items()}
        self.config.use_cache = True
        self._network.model.save_pretrained(folder, state_dict=weights)

    def _divides_weights(self) -> bool:
        return bool(self._engine.zero_optimization_partition_weights())

    def close(self) -> None:
        self._engine.destroy()


def _layout(zero: int, ranks: int) -> str:
    return f"DeepSpeed ZeRO-{zero} of {ranks} rank{'s' * (ranks > 1)}"


def needs_conversion(saved: str, layout: str) -> bool:
    """Whether a state has to be brought into the form that any number of ranks can load.

    Raises:
        UserError: it is of another engine, or divided in another way.
    """
    if saved.partition(" of ")[0] != layout.partition(" of ")[0]:
        raise UserError(
            f"a checkpoint in the layout '{saved}'",
            f"this training has '{layout}', and only the number of ranks may be another",
            "go on with the engine that saved it, or remove the stage's checkpoints to start it afresh",
        )
    return saved != layout


def import_deepspeed(device: Any) -> Any:
    """Its chatter aside, and without what it would compile at its first start. It finds torch's process group."""
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("DS_SKIP_CUDA_CHECK", "1")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # shared-memory collectives: half a minute, needs a compiler, and gloo's do the same
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


class _Stopwatch:
    """How long the device was busy with what it encloses."""

    def __init__(self, device: Any) -> None:
        self._cuda = device.type == "cuda"
        event: Any = torch.cuda.Event
        self._times: list[Any] = [event(enable_timing=True) for _ in range(2)] if self._cuda else [0.0, 0.0]

    def __enter__(self) -> None:
        self._note(0)

    def __exit__(self, *error: object) -> None:
        self._note(1)

    def _note(self, which: int) -> None:
        if self._cuda:
            self._times[which].record()
        else:
            self._times[which] = time.perf_counter()

    def seconds(self) -> float:
        """Of the last time."""
        begin, end = self._times
        return float(begin.elapsed_time(end)) / 1000 if self._cuda else float(end - begin)


class _Copies:
    """What DeepSpeed calls a checkpoint engine: keeps copies of the states in the host's memory, to be written later.

    Everything is copied, not tensors alone: among the states are live objects (the loss scaler), which would be written
    as they are then, not as they were.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def save(self, state_dict: Any, path: str) -> None:
        copied = _on_host(state_dict, {})
        self.parts.append((Path(path), lambda file: torch.save(copied, file)))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        Path(path).mkdir(parents=True, exist_ok=exist_ok)

    def create(self, info: object) -> None:
        """Nothing is to be prepared."""

    def commit(self, info: object) -> bool:
        return True

    def is_decoupled(self) -> bool:
        return False

    def is_data_parallel_writer(self, rank: int) -> bool:
        return rank == 0

    def preserves_storage_sharing(self) -> bool:
        return True


def _on_host(value: Any, seen: dict[tuple[Any, ...], Any]) -> Any:
    """A deep copy with every tensor in the host's memory; tensors that are the same stay the same."""
    if isinstance(value, torch.Tensor):
        key = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if not value.numel() or key not in seen:
            seen[key] = value.detach().to("cpu", copy=True)
        return seen[key]
    if isinstance(value, dict):
        copied = copy.copy(value)
        copied.update((name, _on_host(each, seen)) for name, each in value.items())
        return copied
    if type(value) in (list, tuple):
        return type(value)(_on_host(each, seen) for each in value)
    return copy.deepcopy(value)


def _convert(saved: Path, converted: Path) -> None:
    """By rank 0, DeepSpeed's form that any number of ranks can load."""
    if not torch.distributed.get_rank():
        from deepspeed.checkpoint.ds_to_universal import main

        shutil.rmtree(converted, ignore_errors=True)
        doing = "brought, by rank 0 alone, into the form that another number of ranks can load; the others wait"
        print(f"codeio: {saved.parent}: {doing}", file=sys.stderr, flush=True)
        options = Namespace(
            input_folder=str(saved),
            output_folder=str(converted / _TAG),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main(options)
    torch.distributed.barrier()


def _quieten(engine: Any) -> None:
    """DeepSpeed puts scripts into every checkpoint, and gives up by itself where a loss scale cannot be halved."""
    engine._copy_recovery_script = lambda folder: None
    scaler: Any = getattr(engine.optimizer, "loss_scaler", None)
    if hasattr(scaler, "raise_error_at_min_scale"):
        scaler.raise_error_at_min_scale = False


def _restore_buffers(model: Any, buffers: dict[str, Any], device: Any) -> None:
    """Undo DeepSpeed's cast of buffers: rotary frequencies in half precision put long positions in the wrong place.
    With ZeRO-3 it leaves them where they were made."""
    for name, value in buffers.items():
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        module._buffers[leaf] = value.to(device)
