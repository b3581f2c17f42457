"""Line charts as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 460, 200
_LEFT, _BOTTOM, _TOP, _RIGHT = 62, 28, 14, 10
NAMES = {"loss": "loss (nats a trained token)", "lr": "learning rate"}


@dataclass(frozen=True)
class Curve:
    """A chart ready to be drawn; all lengths in pixels."""

    title: str
    points: str
    """Of an SVG polyline."""
    dots: tuple[tuple[float, float, str], ...]
    """x, y, and the text shown on hover."""
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def curve(lines: Sequence[Mapping[str, Any]], key: str) -> Curve:
    """The chart of one value over optimiser steps."""
    steps = [float(line["step"]) for line in lines]
    values = [float(line[key]) for line in lines]
    low, high = min([*values, 0.0]), max(values) or 1.0
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def x(step: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (step - first) / (last - first), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * (value - low) / (high - low), 1)

    every = max(1, len(steps) // 60)
    shown = list(zip(steps, values, strict=True))[::every]
    return Curve(
        title=NAMES[key],
        points=" ".join(f"{x(step)},{y(value)}" for step, value in zip(steps, values, strict=True)),
        dots=tuple((x(step), y(value), f"step {step:.0f}: {value:.4g}") for step, value in shown),
        x_ticks=tuple((x(step), f"{step:.0f}") for step in (first, (first + last) / 2, last)),
        y_ticks=tuple((y(value), f"{value:.3g}") for value in (low, (low + high) / 2, high)),
    )
