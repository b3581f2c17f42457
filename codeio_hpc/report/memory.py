"""Memory that trainings need, drawn over the number of GPUs: one SVG, a line for each recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log2
from pathlib import Path

from codeio_hpc.errors import UserError
from codeio_hpc.report.courses import marks
from codeio_hpc.tables.files import publish_file

_WIDTH, _HEIGHT = 860, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 60, 50
"""Margins; all lengths in pixels. The right one has the lines' names."""
_WIDE, _HIGH = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_STYLES = (("#1f6fb4", ""), ("#c2410c", "7 3"), ("#2f7d32", "2 3"), ("#7b3fa0", "9 3 2 3"), ("#555555", "4 2"))
"""Colour and dashes: told apart without colours too."""
_APART = 17
"""Between two names at least."""

Points = Sequence[tuple[int, float]]
"""Number of GPUs, bytes of one of them."""


def write_plot(title: str, lines: Mapping[str, Points], usable: float | None, path: Path) -> None:
    """Draw :func:`plot` into a file.

    Raises:
        UserError: nothing can be written there.
    """
    try:
        publish_file(path, plot(title, lines, usable).encode("utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}", "the plot is written there", "name a file in a folder that you may write"
        ) from None


def plot(title: str, lines: Mapping[str, Points], usable: float | None) -> str:
    """The SVG.

    Args:
        lines: name -> points, ascending; all have the same numbers of GPUs.
        usable: bytes that tensors can have, drawn as a border.
    """
    counts = [count for count, _ in next(iter(lines.values()))]
    highest = max([usable or 0.0, *(size for points in lines.values() for _, size in points)])
    axes = _Axes(counts, [1e9 * mark for mark in marks(highest / 1e9, 8)])
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="#222">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
            f'<text x="{_LEFT}" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
            *axes.drawn(),
            *([] if usable is None else _border(axes, usable)),
            *_lines(axes, lines),
            "</svg>",
            "",
        ]
    )


@dataclass(frozen=True)
class _Axes:
    counts: Sequence[int]
    ticks: Sequence[float]

    def x(self, count: int) -> float:
        """Doubling is always as wide."""
        return round(_LEFT + _WIDE * log2(count / self.counts[0]) / (log2(self.counts[-1] / self.counts[0]) or 1), 1)

    def y(self, size: float) -> float:
        return round(_TOP + _HIGH * (1 - size / self.ticks[-1]), 1)

    def drawn(self) -> Iterator[str]:
        yield f'<text x="{_LEFT}" y="{_TOP - 12}">GB of one GPU, at its fullest</text>'
        yield f'<text x="{_LEFT + _WIDE}" y="{_HEIGHT - 10}" text-anchor="end">GPUs</text>'
        for tick in self.ticks:
            yield f'<path d="M{_LEFT},{self.y(tick)}h{_WIDE}" stroke="#e4e4e4"/>'
            yield f'<text x="{_LEFT - 8}" y="{self.y(tick) + 4}" text-anchor="end">{tick / 1e9:,g}</text>'
        for count in self.counts:
            yield f'<path d="M{self.x(count)},{_TOP + _HIGH}v5" stroke="#888"/>'
            yield f'<text x="{self.x(count)}" y="{_TOP + _HIGH + 20}" text-anchor="middle">{count:,}</text>'


def _border(axes: _Axes, usable: float) -> Iterator[str]:
    height = axes.y(usable)
    yield f'<path d="M{_LEFT},{height}h{_WIDE}" stroke="#b00020" stroke-width="1.5"/>'
    text = f"what fits: {usable / 1e9:.0f} GB"
    yield f'<text x="{_LEFT + 4}" y="{height - 6}" fill="#b00020">{text}</text>'


def _lines(axes: _Axes, lines: Mapping[str, Points]) -> Iterator[str]:
    names = _apart({name: axes.y(points[-1][1]) for name, points in lines.items()})
    for number, (name, points) in enumerate(lines.items()):
        colour, dashes = _STYLES[number % len(_STYLES)]
        corners = " ".join(f"{axes.x(count)},{axes.y(size)}" for count, size in points)
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        yield f'<polyline points="{corners}" {style}/>'
        for count, size in points:
            yield f'<circle cx="{axes.x(count)}" cy="{axes.y(size)}" r="3" fill="{colour}"/>'
        yield f'<text x="{_LEFT + _WIDE + 10}" y="{names[name] + 4}" fill="{colour}">{escape(name)}</text>'


def _apart(places: Mapping[str, float]) -> dict[str, float]:
    """Heights of names, moved up where they would overlap; from the lowest to the highest."""
    moved: dict[str, float] = {}
    before = float("inf")
    for name, place in sorted(places.items(), key=lambda item: -item[1]):
        before = moved[name] = min(place, before - _APART)
    return moved
