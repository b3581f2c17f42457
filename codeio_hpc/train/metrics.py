"""One JSON line an optimiser step, a line for the person who waits, and curves for those who watch."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codeio_hpc.train.telemetry import Telemetry

_EVERY = 10.0
"""Seconds between progress lines where lines cannot be rewritten."""

CURVES_EVERY = 1.0
"""Seconds between two points of a curve: half a millisecond each is much for steps of tiny models only."""


class Metrics:
    """``metrics.jsonl``, ``lost.jsonl`` and ``saves.jsonl`` in ``train/STAGE/`` of rank 0, and progress on stderr."""

    def __init__(self, folder: Path, first_step: int, total_steps: int, telemetry: Sequence[Telemetry] = ()) -> None:
        """Steps after ``first_step``, which an earlier attempt did in vain, go from the metrics to ``lost.jsonl``."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        self._saves, self._validation = folder / "saves.jsonl", folder / "validation.jsonl"
        for line in _truncate(path, first_step):
            _append(folder / "lost.jsonl", {"step": line["step"], "seconds": line["seconds"], "time": time.time()})
        _truncate(self._validation, first_step)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the training
        self._total = total_steps
        self._telemetry = telemetry
        self._terminal = sys.stderr.isatty()
        self._shown = time.monotonic()
        self._told = -CURVES_EVERY
        self._tokens = 0
        self._seconds = 0.0
        self._steps = 0

    def add(self, line: dict[str, Any]) -> None:
        """Write one step down and tell of it if it is time."""
        self._file.write(json.dumps(line | {"total_steps": self._total}) + "\n")
        self._file.flush()
        self._tokens += line["tokens"]
        self._seconds += line["seconds"]
        self._steps += 1
        if time.monotonic() - self._told >= CURVES_EVERY or line["step"] == self._total:
            self._told = time.monotonic()
            self._tell(line["step"], {f"train/{name}": value for name, value in line.items() if name != "step"})
        due = 0.2 if self._terminal else _EVERY
        if time.monotonic() - self._shown >= due or line["step"] == self._total:
            self._shown = time.monotonic()
            self._show(line)

    def sync(self) -> None:
        """Put what was written on disk: before a checkpoint that counts on it."""
        os.fsync(self._file.fileno())

    def saved(self, step: int, seconds: float, published: float) -> None:
        """Write down for how many ``seconds`` training waited for a checkpoint (``codeio doctor --run`` plans with it),
        and after how many it was published."""
        line = {"step": step, "seconds": round(seconds, 4), "published": round(published, 4), "time": time.time()}
        _append(self._saves, line)

    def validated(self, step: int, loss: float) -> None:
        """Write down the loss of what is never trained."""
        _append(self._validation, {"step": step, "loss": loss})
        self._tell(step, {"validation/loss": loss})

    def close(self) -> None:
        """End the progress line."""
        if self._terminal and self._steps:
            print(file=sys.stderr)
        self._file.close()
        for each in self._telemetry:
            each.close()

    def _tell(self, step: int, values: dict[str, float]) -> None:
        for each in self._telemetry:
            each.add(step, values)

    def _show(self, line: dict[str, Any]) -> None:
        left = (self._total - line["step"]) * self._seconds / self._steps
        text = (
            f"step {line['step']}/{self._total}  loss {line['loss']:.4f}  lr {line['lr']:.3g}  "
            f"{self._tokens / max(self._seconds, 1e-9):,.0f} tokens/s  {_clock(left)} left"
        )
        print(f"\r\x1b[K{text}" if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr)
        sys.stderr.flush()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of one of these files, without a torn one; none where it is not there."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [json.loads(text) for text in texts if text.endswith("}")]


def last_step(folder: Path) -> int:
    """The last step in a stage's metrics; 0 where there is none."""
    try:
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return 0
    for line in reversed(lines[-2:]):  # the last one may be torn
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def line_of(folder: Path, step: int) -> dict[str, Any] | None:
    """What a stage's metrics say of a step, counted from 1; None where it was not done."""
    return next((line for line in read_lines(folder / "metrics.jsonl") if line["step"] == step), None)


def _append(path: Path, line: dict[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _truncate(path: Path, last_step: int) -> list[dict[str, Any]]:
    """Keep the lines of steps up to ``last_step``; a torn last line goes too. The lines of the other steps."""
    if not path.exists():
        return []
    kept, cut = [], []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
            beyond = line["step"] > last_step
        except (ValueError, KeyError, TypeError):
            break
        if beyond:
            cut.append(line)
        else:
            kept.append(text + "\n")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)
    return cut
