"""Curves for people who watch trainings in TensorBoard or Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from codeio_hpc.errors import UserError


class Telemetry(Protocol):
    """Where the numbers of a step are sent."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """The values of one optimiser step, by name; each name once a step."""

    def close(self) -> None:
        """Nothing more comes."""


class TensorBoard:
    """Event files in the folder ``tensorboard``; ``tensorboard --logdir RUN/train`` shows them."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Steps after ``first_step`` that an interrupted attempt left behind are not shown."""
        from tensorboardX import SummaryWriter

        purge = first_step + 1 if first_step else None
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=purge, flush_secs=30)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WandB:
    """Weights & Biases; a training that goes on does so in the same run of W&B. WANDB_MODE=offline needs no network."""

    def __init__(self, folder: Path, project: str, name: str, identity: str, config: Mapping[str, Any]) -> None:
        """``identity``: hex digits that name this training, and no other.

        Raises:
            UserError: wandb is not installed.
        """
        try:
            import wandb
        except ImportError:
            raise UserError(
                f"telemetry.wandb: {project}", "the package wandb is not installed", "pip install wandb, or remove it"
            ) from None
        self._run = wandb.init(
            project=project, name=name, id=identity[:16], resume="allow", dir=str(folder), config=dict(config)
        )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
