"""What training needs of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from codeio_hpc.train.collate import MicroBatch


@dataclass(frozen=True)
class StepResult:
    """One optimiser step."""

    loss: float
    """Mean over all trained tokens of the global batch."""
    lr: float
    grad_norm: float | None
    """Before clipping; None where the step was skipped because float16 overflowed."""
    notice: bool
    """Some rank was told to stop; all ranks get the same answer."""


class Engine(Protocol):
    """A model with its optimiser, spread over the ranks."""

    device: Any

    @property
    def module(self) -> Any:
        """The model itself, for looking at it."""

    def step(self, batch: Sequence[MicroBatch], targets: int, notice: bool) -> StepResult:
        """One optimiser step over this rank's share of a global batch with ``targets`` trained tokens in all.

        Raises:
            RunFailedError: the loss or the gradient is not finite.
        """

    def save(self, folder: Path) -> None:
        """Write this rank's state into an existing folder."""

    def load(self, folder: Path) -> None:
        """Take over the state that :meth:`save` wrote at the same number of ranks."""

    def export(self, folder: Path) -> None:
        """Rank 0 writes weights and configuration in Hugging Face format into an existing folder."""

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, by rank; also a barrier."""

    def close(self) -> None:
        """Leave the group of ranks."""
