"""Line charts as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 460, 200
_LEFT, _BOTTOM, _TOP, _RIGHT = 62, 28, 14, 10
NAMES = {"loss": "loss (nats a trained token)", "lr": "learning rate"}


@dataclass(frozen=True)
class Line:
    """One line of a chart; all lengths in pixels."""

    name: str
    points: str
    """Of an SVG polyline."""
    dots: tuple[tuple[float, float, str], ...]
    """x, y, and the text shown on hover."""


@dataclass(frozen=True)
class Curve:
    """A chart ready to be drawn; all lengths in pixels."""

    title: str
    lines: tuple[Line, ...]
    marks: tuple[tuple[float, int], ...]
    """x and step of what is marked on the axis."""
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def curve(series: Mapping[str, Sequence[Mapping[str, Any]]], key: str, marks: Sequence[int] = ()) -> Curve:
    """The chart of one value over optimiser steps, with a line for each of the series, by their names; none is empty.

    Args:
        marks: steps to be marked on the axis.
    """
    known = {name: [(float(line["step"]), float(line[key])) for line in lines] for name, lines in series.items()}
    steps = [step for points in known.values() for step, _ in points]
    values = [value for points in known.values() for _, value in points]
    low, high = min([*values, 0.0]), max(values) or 1.0
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def x(step: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (step - first) / (last - first), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * (value - low) / (high - low), 1)

    def line(name: str, points: Sequence[tuple[float, float]]) -> Line:
        shown = points[:: max(1, len(points) // 60)]
        return Line(
            name,
            " ".join(f"{x(step)},{y(value)}" for step, value in points),
            tuple((x(step), y(value), f"{name}, step {step:.0f}: {value:.4g}") for step, value in shown),
        )

    return Curve(
        title=NAMES[key],
        lines=tuple(line(name, points) for name, points in known.items()),
        marks=tuple((x(step), step) for step in marks if first <= step <= last),
        x_ticks=tuple((x(step), f"{step:.0f}") for step in (first, (first + last) / 2, last)),
        y_ticks=tuple((y(value), f"{value:.3g}") for value in (low, (low + high) / 2, high)),
    )
