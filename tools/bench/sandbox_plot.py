"""The figures of `sandbox.py` as one SVG: what an execution costs in each way, and the course of the long run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]

WIDTH, LEFT, PLOT = 860, 130, 700
"""Pixels: of all, of the margin with the names, of what is drawn."""
TOP, BAR, CHART, GAP = 40, 15, 150, 44
"""Height of the heading, of a bar, of a chart; between two charts."""
BLUE, RED, GREY = "#1f6fb4", "#c2410c", "#8a8a8a"
OURS = ("nsjail", "landlock+seccomp", "none")
CHARTS = (
    ("time of an execution, ms", ("cpu_ms", "CPU"), ("wall_ms", "wall")),
    ("anonymous memory, MB", ("jail_anonymous", "jail"), ("worker_anonymous", "worker")),
    ("open descriptors", ("jail_descriptors", "jail"), ("worker_descriptors", "worker")),
)
STYLES = ((BLUE, ""), (RED, "6 3"))


def plot(figures: Mapping[str, Rows]) -> str:
    """Draw of `speed` and `long` what was measured."""
    lines: list[str] = []
    bottom = 10
    if speed := figures.get("speed"):
        lines += bars(speed, bottom)
        bottom += TOP + BAR * (len(speed) + len({row["function"] for row in speed})) + GAP
    if points := figures.get("long"):
        title = f"one worker, {points[-1]['executions']:,} executions of a trivial function at level nsjail"
        lines.append(f'<text x="20" y="{bottom + 16}" font-size="16" font-weight="600">{title}</text>')
        for number, (heading, *curves) in enumerate(CHARTS):
            lines += chart(points, bottom + TOP + number * (CHART + GAP), heading, curves)
        bottom += TOP + len(CHARTS) * (CHART + GAP)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" width="{WIDTH}" height="{bottom}" '
    head += 'font-family="system-ui, sans-serif" font-size="13" fill="#222">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{bottom}" fill="#fff"/>', *lines, "</svg>", ""])


def bars(rows: Rows, top: int) -> Iterator[str]:
    """CPU time of an execution in each way, on a logarithmic scale from half of the least."""
    times = [row["cpu_ms"] for row in rows]
    least, most = math.log10(0.5 * min(times)), math.log10(1.6 * max(times))

    def length(value: float) -> float:
        return PLOT * (math.log10(value) - least) / (most - least)

    yield f'<text x="20" y="{top + 16}" font-size="16" font-weight="600">CPU time of one execution, ms</text>'
    y = top + TOP - 10
    bottom = y + BAR * (len(rows) + len({row["function"] for row in rows}))
    for mark in (1, 10, 100, 1000):
        if least <= math.log10(mark) <= most:
            x = LEFT + length(mark)
            yield f'<path d="M{x:.1f},{y}V{bottom}" stroke="#ddd"/>'
            yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{mark}</text>'
    function = None
    for row in rows:
        if row["function"] != function:
            function = row["function"]
            y += BAR
            yield f'<text x="20" y="{y - 3}" font-weight="600">{function}</text>'
        colour = BLUE if row["way"] in OURS else GREY
        yield f'<text x="{LEFT - 6}" y="{y + 11}" text-anchor="end" font-size="12">{row["way"]}</text>'
        drawn = length(row["cpu_ms"])
        yield f'<rect x="{LEFT}" y="{y + 2}" width="{drawn:.1f}" height="{BAR - 4}" fill="{colour}"/>'
        yield f'<text x="{LEFT + drawn + 5:.1f}" y="{y + 11}" font-size="12">{row["cpu_ms"]:.2f}</text>'
        y += BAR


def chart(points: Rows, top: int, heading: str, curves: Sequence[tuple[str, str]]) -> Iterator[str]:
    """One quantity or two over the number of executions."""
    bottom, last = top + CHART, points[-1]["executions"]
    highest = 1.15 * max(point[key] or 0 for point in points for key, _ in curves)
    step = next(size for size in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if highest / size <= 6)

    def height(value: float) -> float:
        return bottom - (CHART - 24) * value / highest

    yield f'<text x="{LEFT}" y="{top + 12}" font-weight="600">{heading}</text>'
    for mark in range(int(highest / step) + 1):
        y = height(mark * step)
        yield f'<path d="M{LEFT},{y:.1f}h{PLOT}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark * step:g}</text>'
    for part in range(6):
        x, anchor = LEFT + PLOT * part / 5, "end" if part == 5 else "middle"
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="{anchor}">{last * part / 5:,.0f}</text>'
    for place, ((key, name), (colour, dashes)) in enumerate(zip(curves, STYLES, strict=True)):
        drawn = " ".join(
            f"{LEFT + PLOT * one['executions'] / last:.1f},{height(one[key]):.1f}"
            for one in points
            if one[key] is not None
        )
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        yield f'<polyline points="{drawn}" {style}/>'
        x = LEFT + PLOT - 190 + 100 * place
        yield f'<path d="M{x},{top + 8}h30" {style}/><text x="{x + 36}" y="{top + 12}">{name}</text>'
