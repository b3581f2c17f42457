"""megatron-core behind the engine interface, as far as a tiny Llama in float32 asks for it.

Nothing trains with this. It is here so that :class:`codeio_hpc.train.engines.base.Engine` is not DeepSpeed's shape
alone: tensor, pipeline and data parallelism go through the real training loop.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.transformer import TransformerConfig

from codeio_hpc.config.recipe import DType, StageRecipe
from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.train.collate import MicroBatch
from codeio_hpc.train.engines.base import Part, Update
from codeio_hpc.train.forward import Network, evaluating
from tests.train.megatron_weights import join, source_of, whole_model

LossFunction = Callable[..., Any]


class MegatronEngine:
    """See :class:`codeio_hpc.train.engines.base.Engine`.

    TENSOR_PARALLEL and PIPELINE_PARALLEL in the environment divide the model; what ranks are left are replicas.
    """

    def __init__(self, model: Any, stage: StageRecipe, dtype: DType, device: Any, saved: str | None) -> None:
        assert dtype == "float32" and not model.config.tie_word_embeddings
        self.device, self.dtype, self.config = device, torch.float32, model.config
        tensor, pipeline = (int(os.environ.get(name, "1")) for name in ("TENSOR_PARALLEL", "PIPELINE_PARALLEL"))
        self.layout = f"Megatron, {tensor} parts of each of {pipeline} stages"
        if saved not in (None, self.layout):
            raise UserError(f"a checkpoint in the layout '{saved}'", f"'{self.layout}' is needed", "divide it so")
        parallel_state.initialize_model_parallel(tensor, pipeline)
        self.data_parallel_rank = parallel_state.get_data_parallel_rank()
        self.data_parallel_size = parallel_state.get_data_parallel_world_size()
        self.parameter_count = sum(each.numel() for each in model.parameters())
        self._tensor_rank = parallel_state.get_tensor_model_parallel_rank()
        self._stage = parallel_state.get_pipeline_model_parallel_rank()
        self._model = _empty_model(model.config, tensor, pipeline)
        self._first_layer = self._model.decoder.layers[0].layer_number - 1
        self._named = dict(self._model.named_parameters())
        self._original = model
        self._take_weights(tensor)
        self._clip = stage.clip
        self._optimiser = torch.optim.AdamW(
            self._named.values(), lr=stage.lr, betas=stage.betas, weight_decay=stage.weight_decay
        )
        self._pipeline = pipeline
        self._kept: list[MicroBatch] = []
        self._seconds = 0.0

    def _take_weights(self, ranks: int) -> None:
        weights = self._original.state_dict()
        for each in weights.values():  # rank 0 alone has read them
            torch.distributed.broadcast(each, 0)
        with torch.no_grad():
            for name, parameter in self._named.items():
                sources, axis = source_of(name, self._first_layer)
                tensors = [weights[source] for source in sources]
                parameter.copy_(join(tensors, axis, self.config.num_key_value_heads, ranks, self._tensor_rank))

    def logits(self, micro: MicroBatch) -> Any:
        def finish(logits: Any, non_loss_data: bool) -> Any:
            return logits.flatten(0, 1)[micro.predicting].float()

        with evaluating(self._model):
            found = self._forward_backward([micro], lambda micro: finish, forward_only=True, collect_non_loss_data=True)
        shape = len(micro.predicting), self.config.vocab_size
        logits = found[0] if found else torch.empty(shape, device=self.device)
        last = parallel_state.get_pipeline_model_parallel_last_rank()
        torch.distributed.broadcast(logits, last, group=parallel_state.get_pipeline_model_parallel_group())
        return logits

    def probe_loss(self) -> None:
        length = 32
        ids = torch.arange(2 * length)[None] * 7 % self.config.vocab_size
        places = torch.arange(length - 1)
        predicting = torch.cat([places, places + length])
        borders = torch.tensor([0, length, 2 * length], dtype=torch.int32)
        micro = MicroBatch(
            ids, torch.arange(length).repeat(2)[None], predicting, ids[0, predicting + 1], borders, length
        )
        ours = torch.tensor(self.loss(micro) / self.data_parallel_size)  # every replica has the same
        torch.distributed.all_reduce(ours)
        original = Network(self._original)
        with evaluating(original):
            theirs = float(original(**vars(micro)))
        if not math.isclose(float(ours), theirs, rel_tol=1e-5):
            raise RunFailedError(f"Megatron's loss is {float(ours):.6g}, that of transformers {theirs:.6g}")

    def loss(self, micro: MicroBatch) -> float:
        with evaluating(self._model):
            return float(self._losses([micro], 1, forward_only=True))

    def accumulate(self, micro: MicroBatch, targets: int, last: bool) -> Any:
        self._kept.append(micro)
        if self._pipeline > 1 and not last:
            return torch.zeros((), device=self.device)
        kept, self._kept = self._kept, []
        return self._losses(kept, max(1, targets), forward_only=False)

    def forward_seconds(self) -> float:
        return self._seconds  # of this stage of the pipeline

    def _losses(self, micros: list[MicroBatch], divisor: int, forward_only: bool) -> Any:
        """This rank's part of the summed loss over ``divisor``, and its gradients."""

        def finish_of(micro: MicroBatch) -> LossFunction:
            def finish(losses: Any) -> tuple[Any, Any, Any]:
                loss = losses.flatten()[micro.predicting].sum() / divisor
                return loss, torch.tensor(len(micro.targets), dtype=torch.int), loss.detach().clone()

            return finish

        found = self._forward_backward(micros, finish_of, forward_only=forward_only)
        return torch.zeros((), device=self.device) + (sum(found) if self._tensor_rank == 0 else 0)

    def _forward_backward(
        self, micros: list[MicroBatch], finish_of: Callable[[MicroBatch], LossFunction], **options: Any
    ) -> list[Any]:
        """Megatron's schedule; what the last stage of the pipeline made of each micro-batch, elsewhere nothing."""
        with_loss = "collect_non_loss_data" not in options

        def step(batches: Iterator[MicroBatch], model: Any) -> tuple[Any, LossFunction]:
            micro = next(batches)
            labels = torch.zeros_like(micro.input_ids)
            labels.view(-1)[micro.predicting] = micro.targets
            start = time.monotonic()
            made = model(
                micro.input_ids,
                micro.position_ids,
                _mask(micro),
                labels=labels if with_loss else None,
                runtime_gather_output=not with_loss,
            )
            self._seconds = time.monotonic() - start
            return made, finish_of(micro)

        schedule = get_forward_backward_func()
        found: list[Any] = schedule(
            forward_step_func=step,
            data_iterator=iter(micros),
            model=self._model,
            num_microbatches=len(micros),
            seq_length=micros[0].input_ids.shape[1],
            micro_batch_size=micros[0].input_ids.shape[0],
            **options,
        )
        return found

    def update(self, lr: float) -> Update:
        norm = self._reduce_gradients()
        applied = math.isfinite(norm)
        if applied:
            for each in self._named.values():
                assert each.grad is not None
                each.grad.mul_(min(1.0, self._clip / (norm + 1e-6)))
            for group in self._optimiser.param_groups:
                group["lr"] = lr
            self._optimiser.step()
        self._optimiser.zero_grad()
        return Update(applied, norm if applied else math.inf, 1.0)

    def _reduce_gradients(self) -> float:
        """Sum them over the replicas; the norm of all of them, every weight counted once."""
        squares = torch.zeros(())
        for name, parameter in self._named.items():
            torch.distributed.all_reduce(parameter.grad, group=parallel_state.get_data_parallel_group())
            if self._tensor_rank == 0 or source_of(name, 0)[1] is not None:
                assert parameter.grad is not None
                squares += parameter.grad.square().sum()
        torch.distributed.all_reduce(squares, group=parallel_state.get_model_parallel_group())
        return math.sqrt(float(squares))

    def _file(self, folder: Path) -> Path:
        return folder / "engine" / f"stage-{self._stage}-part-{self._tensor_rank}.pt"

    def snapshot(self, folder: Path) -> list[Part]:
        if self.data_parallel_rank:
            return []
        state = {"model": self._weights(), "optimiser": _copied(self._optimiser.state_dict())}
        return [(self._file(folder), lambda file: torch.save(state, file))]

    def load(self, folder: Path) -> None:
        state = torch.load(self._file(folder))
        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(state["model"][name])
        self._optimiser.load_state_dict(state["optimiser"])

    def _weights(self) -> dict[str, Any]:
        return {name: each.detach().clone() for name, each in self._named.items()}

    def export(self, folder: Path) -> None:
        mine = (self._stage, self._tensor_rank), (self._first_layer, self._weights())
        told: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(told, mine)
        if torch.distributed.get_rank() == 0:
            self._original.load_state_dict(whole_model(dict(told), self._original))
            self._original.config.use_cache = True
            self._original.save_pretrained(folder)

    def close(self) -> None:
        parallel_state.destroy_model_parallel()


def _empty_model(config: Any, tensor: int, pipeline: int) -> Any:
    transformer = TransformerConfig(
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        ffn_hidden_size=config.intermediate_size,
        num_attention_heads=config.num_attention_heads,
        num_query_groups=config.num_key_value_heads,
        normalization="RMSNorm",
        layernorm_epsilon=config.rms_norm_eps,
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        tensor_model_parallel_size=tensor,
        pipeline_model_parallel_size=pipeline,
        pipeline_dtype=torch.float32,
        variable_seq_lengths=True,  # micro-batches are as long as their longest row
        moe_token_dispatcher_type="alltoall",  # asked for by the line above, experts or none
        calculate_per_token_loss=True,  # our own sum over all tokens, not Megatron's mean over micro-batches
        perform_initialization=False,
        use_cpu_initialization=True,
        # kernels that CPUs have not
        masked_softmax_fusion=False,
        bias_dropout_fusion=False,
        bias_activation_fusion=False,
        apply_rope_fusion=False,
        gradient_accumulation_fusion=False,
        persist_layer_norm=False,
    )
    return GPTModel(
        transformer,
        get_gpt_layer_local_spec(normalization="RMSNorm"),
        config.vocab_size,
        config.max_position_embeddings,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
        position_embedding_type="rope",
        rotary_base=config.rope_parameters["rope_theta"],
    )


def _mask(micro: MicroBatch) -> torch.Tensor:
    """bool [rows, 1, length, length]: True where a token must not look. Each sample sees itself alone.

    Megatron turns positions by their place in the row, not in the sample; attention depends on distances only.
    """
    rows, length = micro.input_ids.shape
    sample = torch.bucketize(torch.arange(rows * length), micro.borders[1:].long(), right=True).view(rows, length)
    seen = (sample[:, :, None] == sample[:, None]) & torch.ones(length, length, dtype=torch.bool).tril()
    return ~seen[:, None]


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value
