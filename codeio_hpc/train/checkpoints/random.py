"""The random number generators of a rank. Loads torch."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch


@dataclass(frozen=True)
class RandomState:
    """Of Python, numpy and torch (this rank's GPU included) at one moment."""

    state: dict[str, Any]

    @classmethod
    def now(cls) -> RandomState:
        """As they are."""
        state = {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": np.random.get_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state()
        return cls(state)

    def restore(self) -> None:
        """Make them as they were."""
        torch.set_rng_state(self.state["torch"])
        random.setstate(self.state["python"])
        np.random.set_state(self.state["numpy"])
        if "cuda" in self.state:
            torch.cuda.set_rng_state(self.state["cuda"])

    def write(self, file: IO[bytes]) -> None:
        """Into a file of a checkpoint."""
        torch.save(self.state, file)

    @classmethod
    def read(cls, path: Path) -> RandomState:
        """From a file whose hash was checked."""
        return cls(torch.load(path, weights_only=False))


def seed(value: int, replica: int, step: int = 0) -> None:
    """Seed this rank's generators: at the start, and where a training goes on at another number of ranks.

    The ranks of one ``replica`` of the model (:attr:`codeio_hpc.train.engines.base.Engine.data_parallel_rank`) draw the
    same.
    """
    words = np.random.SeedSequence([value % 2**64, replica, step]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))
