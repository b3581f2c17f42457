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


class Reader(Protocol):
    """A model that says what it expects next."""

    @property
    def config(self) -> Any:
        """The model's configuration, in Hugging Face's form."""

    @property
    def device(self) -> Any:
        """Where it is, as this rank sees it."""

    @property
    def dtype(self) -> Any:
        """What it calculates in."""

    def logits(self, micro: MicroBatch) -> Any:
        """float32 [trained tokens, vocabulary]: what training makes of a micro-batch before it takes the loss.

        Without gradients, in evaluation mode; whole on every rank, whatever the model is divided by.
        """


class Engine(Reader, Protocol):
    """A model with its optimiser, spread over the ranks. All ranks make the same calls in the same order.

    There may be several copies (replicas) of the model, each of which trains micro-batches of its own: data
    parallelism. The ranks that hold parts of one replica (tensor and pipeline parallelism) are given the same
    micro-batches.
    """

    @property
    def data_parallel_rank(self) -> int:
        """The number of the replica that this rank belongs to."""

    @property
    def data_parallel_size(self) -> int:
        """How many replicas there are."""

    @property
    def layout(self) -> str:
        """How the state is divided into the files of :meth:`snapshot`, in words; a checkpoint says of which layout it
        is. Of the same layout it is loaded bit for bit."""

    @property
    def parameter_count(self) -> int:
        """How many numbers the weights of one replica are, wherever they lie."""

    def probe_loss(self) -> None:
        """Hold the loss that is trained against that of the model as it will be used.

        Raises:
            RunFailedError: they differ.
        """

    def loss(self, micro: MicroBatch) -> float:
        """This rank's part of the summed loss of a micro-batch, without gradients, in evaluation mode.

        The parts of all ranks together are the loss: of the ranks of one replica, one has it, and the others 0.
        """

    def accumulate(self, micro: MicroBatch, targets: int, last: bool) -> Any:
        """Add the gradients of one micro-batch to those of a global batch with ``targets`` trained tokens in all.

        Returns this rank's part of the global mean loss, a tensor on the device that nothing has waited for yet; parts
        as in :meth:`loss`. An engine that works on several micro-batches at a time (a pipeline is full only then) may
        keep them until the last, return 0 for those that it keeps, and all their losses with the last.
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
        """Take over the state that :meth:`snapshot` wrote, in the layout that the engine was opened for."""

    def export(self, folder: Path) -> None:
        """Write weights and configuration in Hugging Face format into a folder that rank 0 has made, by rank 0."""

    def close(self) -> None:
        """Let go of the model."""
