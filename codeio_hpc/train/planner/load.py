"""What one rank is asked to hold: everything that its memory depends on."""

from __future__ import annotations

from dataclasses import dataclass

from codeio_hpc.config.recipe import Device, DType, ModelFacts, Recipe

LOSS_CHUNK = 1024
"""Positions whose logits exist at a time: ``CHUNK`` of ``train/forward.py``, which loads torch."""


@dataclass(frozen=True)
class Load:
    """One rank's share of a training."""

    facts: ModelFacts
    ranks: int
    rows: int
    """Packed sequences of one forward pass."""
    length: int
    """Tokens of each."""
    device: Device
    dtype: DType
    """Of weights, activations and gradients."""
    zero: int
    attention: str
    checkpointing: bool
    accumulates: bool
    """A step has more than one forward pass, whose gradients are added up."""

    @property
    def element(self) -> int:
        """Bytes of one number in ``dtype``."""
        return 4 if self.dtype == "float32" else 2

    @property
    def tokens(self) -> int:
        """Of one forward pass."""
        return self.rows * self.length

    @property
    def loss_positions(self) -> int:
        """Tokens whose logits exist at the same time, if all are trained."""
        return min(self.tokens, LOSS_CHUNK)


def load_of(recipe: Recipe, stage: str, facts: ModelFacts, ranks: int, device: Device, accumulates: bool) -> Load:
    """What a rank holds in one stage of a recipe."""
    return Load(
        facts=facts,
        ranks=ranks,
        rows=recipe.stage(stage).micro_batch,
        length=recipe.length(stage),
        device=device,
        dtype=recipe.dtype.cuda if device == "cuda" else recipe.dtype.cpu,
        zero=recipe.zero,
        attention=recipe.attention,
        checkpointing=recipe.activation_checkpointing,
        accumulates=accumulates,
    )
