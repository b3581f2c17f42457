"""What a drill measured, from what its trainings wrote down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from codeio_hpc.launch.attempts import Attempt
from codeio_hpc.tables.files import sha256

PARTS = {
    "queue": ("queued", "script"),
    "batch script": ("script", "process"),
    "libraries": ("process", "met"),
    "loading": ("met", "loaded"),
    "first step": ("loaded", "step"),
}
"""Of a restart: the moments between which each lies."""


@dataclass(frozen=True)
class Save:
    """A checkpoint."""

    step: int
    blocked: float
    """Seconds that training waited for its state to be copied."""
    published: float
    """Seconds until it could be resumed from."""
    on_notice: bool
    """Whether it was made because of the notice; otherwise it is the last one before it."""


@dataclass(frozen=True)
class Round:
    """One attempt's end and the next one's beginning. What could not be measured is None."""

    signal: str | None
    notice: float | None
    """Seconds from the first signal until the job was gone from its nodes and back in the queue; None: no signal was
    heard before the end. SLURM gives the latter in whole seconds."""
    save: Save | None
    lost_steps: int
    """Steps that were done and had to be done again."""
    lost_seconds: float
    begun_seconds: float
    """At most that much was lost of the step that was not finished."""
    restart: dict[str, float]
    """Seconds of each of :data:`PARTS` that was reached."""

    @property
    def restart_seconds(self) -> float | None:
        """From the queue to the end of the first step."""
        return sum(self.restart.values()) if len(self.restart) == len(PARTS) else None


def rounds(run: Path, attempts: Sequence[Attempt]) -> list[Round]:
    """What was measured between each attempt at stage 1 and the next."""
    folder = run / "train" / "stage1"
    saves, lost = list(_lines(folder / "saves.jsonl")), list(_lines(folder / "lost.jsonl"))
    step = median([line["seconds"] for line in _lines(folder / "metrics.jsonl")] or [0.0])
    begins = [attempt.moments.get("script", attempt.began) for attempt in attempts]
    return [
        _round(old, new, step, _between(saves, begin, after), _between(lost, after, end))
        for (old, new), (begin, after), end in zip(
            pairwise(attempts), pairwise(begins), [*begins[2:], float("inf")], strict=False
        )
    ]


def _round(old: Attempt, new: Attempt, step: float, saves: list[Any], lost: list[Any]) -> Round:
    told, queued = old.moments.get("told"), new.moments.get("queued")
    save = None
    if saves:
        line = saves[-1]
        on_notice = told is not None and line["time"] > told
        save = Save(line["step"], line["seconds"], line["published"], on_notice)
    return Round(
        signal=old.signal,
        notice=None if told is None or queued is None else max(0.0, queued - told),
        save=save,
        lost_steps=len(lost),
        lost_seconds=sum((line["seconds"] for line in lost), 0.0),
        begun_seconds=step,
        restart={
            name: max(0.0, new.moments[end] - new.moments[begin])
            for name, (begin, end) in PARTS.items()
            if begin in new.moments and end in new.moments
        },
    )


def _between(lines: list[Any], begin: float, end: float) -> list[Any]:
    return [line for line in lines if begin <= line["time"] < end]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for text in texts:
        try:
            yield json.loads(text)
        except ValueError:  # torn by a kill
            continue


def differences(run: Path, other: Path) -> list[str]:
    """In what two finished trainings of stage 1 differ, bit for bit; nothing but times may."""
    ours, theirs = (_curve(each) for each in (run, other))
    found = []
    if ours != theirs:
        steps = [line["step"] for line, expected in zip(ours, theirs, strict=False) if line != expected]
        where = f"first at step {steps[0]}, {len(steps)} in all" if steps else f"{len(ours)} and {len(theirs)} steps"
        found.append(f"the curves of loss and gradient norm ({where})")
    weights, expected = (_weights(each) for each in (run, other))
    if weights != expected:
        found.append("the weights")
    return found


def _curve(run: Path) -> list[dict[str, Any]]:
    lines = _lines(run / "train" / "stage1" / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def _weights(run: Path) -> dict[str, str]:
    folder = run / "models" / "stage1"
    return {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))}
