"""What training needs of an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from codeio_hpc.train.collate import MicroBatch

Part = tuple[Path, Callable[[IO[bytes]], None]]
"""A file of a checkpoint, and what writes its content."""


@dataclass(frozen=True)
class Update:
    """What became of an optimiser step."""

    applied: bool
    """False: the gradients were not finite. Weights and optimiser are as before, the gradients are forgotten; with
    float16 the loss scale is halved."""
    grad_norm: float
    """Before clipping; infinite where the step was not applied."""
    loss_scale: float
    """For the next step; 1 where the number format needs none."""


class Engine(Protocol):
    """A model with its optimiser, spread over the ranks. All ranks make the same calls in the same order."""

    device: Any

    @property
    def module(self) -> Any:
        """The model in Hugging Face's form, for looking at it."""

    def loss(self, micro: MicroBatch) -> float:
        """Summed loss of a micro-batch, without gradients."""

    def accumulate(self, micro: MicroBatch, targets: int, last: bool) -> Any:
        """Add the gradients of one micro-batch to those of a global batch with ``targets`` trained tokens in all.

        Returns this rank's part of the global mean loss, a tensor on the device that nothing has waited for yet.
        ``last``: no other micro-batch follows before :meth:`update`.
        """

    def forward_seconds(self) -> float:
        """What the latest forward pass took on this rank's device, backward pass and other ranks aside.

        To be asked when something has waited for the device.
        """

    def update(self, lr: float) -> Update:
        """One optimiser step with the gradients that were accumulated."""

    def snapshot(self, folder: Path) -> list[Part]:
        """Copy this rank's state to the host's memory; the files below ``folder`` that the copy is to be written to.

        Gradients are not part of it: a step that was begun is begun anew.
        """

    def load(self, folder: Path) -> None:
        """Take over the state that :meth:`snapshot` wrote; at another number of ranks than this, too, where the engine
        was made for it."""

    def export(self, folder: Path) -> None:
        """Write weights and configuration in Hugging Face format into an existing folder, by rank 0."""

    def close(self) -> None:
        """Let go of the model."""
