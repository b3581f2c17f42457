"""The one way in which models are called in training, and their loss. Loads torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from codeio_hpc.train import attention
from codeio_hpc.train.collate import MicroBatch

CHUNK = 1024
"""Positions whose logits exist at a time. At 152,064 tokens (Qwen2.5) those of one chunk are 0.6 GB in float32; those
of a whole sequence of 4,096 with their gradients would be 7.5 GB, more than anything else that is not weights."""


class Network(torch.nn.Module):
    """A causal language model of transformers, taken apart so that only the logits that are needed are made."""

    def __init__(self, model: Any, chunks: int | None = None) -> None:
        """``chunks``: always make so many. Where the head's weights are divided among the ranks, all must ask for them
        equally often, however many of their tokens are trained."""
        super().__init__()
        self.model = model
        self._chunks = chunks
        self._by_samples = model.config._attn_implementation == attention.NAME

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        predicting: torch.Tensor,
        targets: torch.Tensor | None,
        borders: torch.Tensor,
        longest: int,
    ) -> torch.Tensor:
        """The cross entropy of ``targets``, summed, in float32; without targets the logits that predict them.

        Args:
            input_ids: int64 [rows, length]: packed samples.
            position_ids: int64 [rows, length]: from 0 in each sample. Samples do not see each other only if there is
                neither an attention mask nor a cache (transformers 5 derives the mask from the positions then).
            predicting: int64 [n]: positions in the flattened rows whose next token is asked for.
            targets: int64 [n]: these next tokens.
            borders: int32 [samples + 1]: where each sample begins in the flattened rows, and their end.
            longest: tokens of the longest sample.

        Returns:
            A float32 scalar, or float32 [n, vocabulary].
        """
        body = self.model.base_model(
            input_ids=input_ids,
            position_ids=position_ids,
            attention_mask=None,
            use_cache=False,
            **self.samples(borders, longest),
        )
        states: torch.Tensor = body.last_hidden_state.flatten(0, 1)[predicting]
        if targets is None:
            return self._logits(states)
        count = self._chunks or max(1, -(-len(targets) // CHUNK))
        if count == 1:
            return self._loss(states, targets)
        total = torch.zeros((), device=states.device)
        for chunk in zip(states.tensor_split(count), targets.tensor_split(count), strict=True):
            total = total + checkpoint(self._loss, *chunk, use_reentrant=False)
        return total

    @property
    def config(self) -> Any:
        """The model's."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the model calculates in."""
        return next(self.parameters()).dtype

    def logits(self, micro: MicroBatch) -> torch.Tensor:
        """float32 [trained tokens, vocabulary], without gradients, in evaluation mode."""
        tensors = (micro.input_ids, micro.position_ids, micro.predicting, micro.borders)
        ids, positions, predicting, borders = (each.to(self.device) for each in tensors)
        with evaluating(self):
            logits: torch.Tensor = self(ids, positions, predicting, None, borders, micro.longest)
        return logits

    def samples(self, borders: torch.Tensor, longest: int) -> dict[str, Any]:
        """What our own attention is told besides; transformers' know it from the positions."""
        return {"borders": borders, "longest": longest} if self._by_samples else {}

    # of no tokens at all the loss is 0, with gradients of 0: the ranks' collective operations stay in step
    def _loss(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self._logits(states), targets, reduction="sum")

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        """Soft-capped where the model says so (Gemma 2)."""
        logits: torch.Tensor = self.model.get_output_embeddings()(states).float()
        cap: float | None = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if cap is None else (logits / cap).tanh() * cap


@contextmanager
def evaluating(network: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, for a while."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)
