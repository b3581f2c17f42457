"""Steps whose loss or gradient norm stands out against those before: told, or the end of the training."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from codeio_hpc.config.recipe import SpikeSettings
from codeio_hpc.errors import RunFailedError

_NAMES = {"loss": "loss", "grad_norm": "gradient norm"}

Measured = Mapping[str, float]
"""``loss`` and ``grad_norm`` of a step, and ``spikes``, as in the metrics."""


class SpikeGuard:
    """Holds each step against the highest of those before it, spikes aside.

    All ranks have the same numbers, so that all decide the same without a word. Nothing of it is in a checkpoint: it is
    made again from the metrics, which are cut to the step that training goes on from.
    """

    def __init__(self, settings: SpikeSettings, before: Iterable[Measured] = ()) -> None:
        """``before``: the last steps that were done, in their order."""
        self._settings = settings
        self._usual: deque[Measured] = deque(maxlen=settings.window)
        self.row = 0
        """How many steps, up to the last one, were spikes without one between them that was none."""
        for step in before:
            self._remember(step, int(step.get("spikes", 0)))

    def judge(self, number: int, measured: Measured) -> str | None:
        """Take in a step; what is to be told of it, if anything.

        Raises:
            RunFailedError: it is a spike too many, and the recipe says ``stop``.
        """
        found = self._spike(measured)
        self._remember(measured, self.row + 1 if found else 0)
        if found and self._settings.action == "stop" and self.row >= self._settings.patience:
            raise RunFailedError(
                f"step {number}: {found}; {self.row} such step{'s' * (self.row > 1)} in a row, and nothing is saved of "
                "this one. Going on from the last checkpoint meets the same batch: set spike: {action: warn} in the "
                "recipe to go on over it, or begin the stage anew with a lower lr or without the batch's samples"
            )
        return f"step {number}: {found}" if found and self.row == 1 else None

    def _spike(self, measured: Measured) -> str | None:
        if len(self._usual) < self._settings.window:
            return None
        for key, name in _NAMES.items():
            highest = max(step[key] for step in self._usual)
            if measured[key] > self._settings.factor * highest:
                seen = (
                    f"{measured[key]:.4g}, {measured[key] / highest:.1f} times" if highest else f"{measured[key]:.4g}"
                )
                return f"the {name} is {seen} the highest of {len(self._usual)} steps before ({highest:.4g})"
        return None

    def _remember(self, measured: Measured, row: int) -> None:
        self.row = row
        if not row:
            self._usual.append({key: measured[key] for key in _NAMES})


def last_steps(folder: Path, window: int) -> list[dict[str, Any]]:
    """The end of a stage's metrics (which :class:`codeio_hpc.train.metrics.Metrics` has cut to the steps that are
    done): as much as a :class:`SpikeGuard` of that window needs."""
    found: list[dict[str, Any]] = []
    usual = 0
    for text in reversed((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
        line = json.loads(text)
        found.append({key: line[key] for key in (*_NAMES, "spikes") if key in line})
        usual += not line.get("spikes", 0)
        if usual == window:
            break
    return found[::-1]
