"""The courses that a planned build may take, drawn over time: one SVG with three charts, one line a scenario."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.tables.files import publish_file

_WIDTH, _HEIGHT = 860, 660
_LEFT, _RIGHT, _TOP, _GAP = 78, 20, 64, 44
_CHART = 150
"""Height of one chart; all lengths in pixels."""

_STYLES = {"calm": ("#1f6fb4", "without faults", ""), "faults": ("#c2410c", "with faults", "6 3")}
"""Scenario -> colour, name, dashes: told apart without colours too."""

_CHARTS = (
    ("running", "tasks at work", 1.0),
    ("published", "shards published, of all stages (%)", 100.0),
    ("lost", "lost work (hours of tasks)", 1.0),
)
"""Key of the timeline, heading, factor."""

_UNITS = ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def write_plot(plan: Mapping[str, Any], path: Path) -> None:
    """Draw the scenarios of a plan, as :func:`codeio_hpc.launch.planning.forecast.forecast` makes it.

    Raises:
        UserError: nothing can be written there.
    """
    where = f"on site {plan['site']}" if plan["site"] else "on this machine"
    title = f"Plan of {plan['name']} {where}: {plan['files']:,} files in {plan['shards']:,} shards"
    courses = {name: each["timeline"] for name, each in plan["scenarios"].items()}
    drawn = plot(title, courses).encode("utf-8")
    try:
        publish_file(path, drawn)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}", "the plot is written there", "name a file in a folder that you may write"
        ) from None


def plot(title: str, courses: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """The SVG.

    Args:
        courses: scenario -> {"seconds", "running", "published", "lost"}, all of one length.
    """
    longest = max(course["seconds"][-1] for course in courses.values()) or 1.0
    unit, unit_name = next((each for each in _UNITS if longest >= 2 * each[0]), _UNITS[-1])
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#222">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="24" font-size="16" font-weight="600">{escape(title)}</text>',
        *_legend(courses),
    ]
    for number, (key, heading, factor) in enumerate(_CHARTS):
        values = {name: [factor * value for value in course[key]] for name, course in courses.items()}
        lines += _chart(_TOP + number * (_CHART + _GAP), heading, courses, values, longest, unit)
    bottom = _TOP + len(_CHARTS) * (_CHART + _GAP) - 8
    lines.append(f'<text x="{_WIDTH - _RIGHT}" y="{bottom}" text-anchor="end">time ({unit_name})</text>')
    return "\n".join([*lines, "</svg>", ""])


def _legend(names: Mapping[str, object]) -> Iterator[str]:
    x = _LEFT
    for name in names:
        colour, text, dashes = _STYLES[name]
        yield f'<path d="M{x},42h30" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        yield f'<text x="{x + 36}" y="46">{text}</text>'
        x += 160


def _chart(
    top: int,
    heading: str,
    courses: Mapping[str, Mapping[str, Sequence[float]]],
    values: Mapping[str, Sequence[float]],
    longest: float,
    unit: float,
) -> Iterator[str]:
    bottom = top + _CHART
    heights = marks(max(max(each) for each in values.values()) or 1.0)
    highest = heights[-1]

    def x(seconds: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * seconds / longest, 1)

    def y(value: float) -> float:
        return round(bottom - (_CHART - 24) * value / highest, 1)

    yield f'<text x="{_LEFT}" y="{top + 12}" font-weight="600">{heading}</text>'
    for mark in heights:
        yield f'<path d="M{_LEFT},{y(mark)}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 8}" y="{y(mark) + 4}" text-anchor="end">{mark:,g}</text>'
    for mark in marks(longest / unit, 10):
        if mark * unit <= longest:
            yield f'<path d="M{x(mark * unit)},{bottom}v5" stroke="#888"/>'
            yield f'<text x="{x(mark * unit)}" y="{bottom + 18}" text-anchor="middle">{mark:,g}</text>'
    for name, course in courses.items():
        colour, _, dashes = _STYLES[name]
        points = " ".join(f"{x(when)},{y(value)}" for when, value in _stairs(course["seconds"], values[name]))
        yield (
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round" '
            f'stroke-dasharray="{dashes}"/>'
        )


def _stairs(times: Sequence[float], values: Sequence[float]) -> Iterator[tuple[float, float]]:
    """The corners of a line that keeps a value until the next is known."""
    before = values[0]
    yield times[0], before
    for when, value in zip(times, values, strict=True):
        if value != before:
            yield when, before
            yield when, value
        before = value
    yield times[-1], before


def marks(highest: float, most: int = 5) -> list[float]:
    """Round numbers from 0 to at least ``highest``, which is above 0, with ``most`` or fewer of them above 0."""
    power = 1.0
    while power * 10 <= highest:
        power *= 10
    while power > highest:
        power /= 10
    step = next(power * part for part in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if most * power * part >= highest)
    count = 1
    while count * step < highest:
        count += 1
    return [round(number * step, 9) for number in range(count + 1)]
