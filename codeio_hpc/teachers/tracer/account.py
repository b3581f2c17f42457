"""From a line trace to a short true account in words."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from codeio_hpc.sandbox import TraceEvent

MAX_STEPS = 10
"""Steps told one by one; what lies between them is summed up where it lies."""
_LAST_STEPS = 3
_REPEATS = 2
"""A line that runs again and again is told this often."""
_MAX_SOURCE = 60
_MAX_VALUE = 40
_MAX_NAMES = 3
"""Values told of steps that are left out."""


@dataclass(frozen=True)
class _Step:
    """One executed line in words, and the values it changed."""

    line: int
    text: str
    changed: Mapping[str, str] = field(default_factory=dict)


class Source:
    """The traced code: its lines, and where the bodies of its branches begin."""

    def __init__(self, code: str) -> None:
        self._lines = code.splitlines()
        self._bodies: dict[int, tuple[int, int]] = {}
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.If | ast.While):
                self._bodies[node.lineno] = (node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno)

    def text(self, line: int) -> str:
        """The line's source, without indentation or a trailing colon, cut to a readable length."""
        text = self._lines[line - 1].strip().rstrip(":") if 0 < line <= len(self._lines) else "?"
        return _cut(text, _MAX_SOURCE)

    def branch(self, line: int, following: int) -> str | None:
        """Whether the condition on ``line`` held, told by the line that ran next; None if it is no branch."""
        body = self._bodies.get(line)
        if body is None:
            return None
        return "yes" if body[0] <= following <= body[1] and following != line else "no"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tell(code: str, trace: Sequence[TraceEvent], complete: bool) -> list[str]:
    """The executed steps in words, in order: at most :data:`MAX_STEPS`, and where steps are left out, how many and what
    values they led to."""
    steps = list(_steps(Source(code), trace))
    chosen = _chosen(steps)
    told: list[str] = []
    for number, step in enumerate(steps):
        if number in chosen:
            told.append(step.text)
        elif number == 0 or number - 1 in chosen:
            end = next((later for later in range(number, len(steps)) if later in chosen), len(steps))
            told.append(_summary(steps[number:end]))
    return told if complete else [*told, "(and so on)"]


def _chosen(steps: Sequence[_Step]) -> set[int]:
    """Which steps are told: a line that runs often only at first; of too many the first and the last ones."""
    seen: Counter[int] = Counter()
    chosen: list[int] = []
    for number, step in enumerate(steps):
        seen[step.line] += 1
        if seen[step.line] <= _REPEATS or number == len(steps) - 1:
            chosen.append(number)
    if len(chosen) > MAX_STEPS:
        chosen = [*chosen[: MAX_STEPS - _LAST_STEPS], *chosen[-_LAST_STEPS:]]
    return set(chosen)


def _summary(steps: Sequence[_Step]) -> str:
    """Steps that are left out: how many, and the values of what they changed last."""
    values: dict[str, str] = {}
    for step in steps:
        for name, value in step.changed.items():
            values.pop(name, None)  # the latest change comes last
            values[name] = value
    shown = ", ".join(f"{name} = {_cut(value, _MAX_VALUE)}" for name, value in list(values.items())[-_MAX_NAMES:])
    count = f"{len(steps)} more step{'s' * (len(steps) > 1)}"
    return f"({count}, then {shown})" if shown else f"({count})"


def _steps(source: Source, trace: Sequence[TraceEvent]) -> Iterator[_Step]:
    """Pair each ``line`` event with what the frame's next event says it changed."""
    pending: dict[int, TraceEvent] = {}
    wrapper = trace[0].function if trace else ""
    for event in trace:
        if event.function.startswith("<") and event.function != "<module>":
            continue  # the inside of a comprehension or lambda: its line has been told
        before = pending.pop(event.depth, None)
        if before is not None and before.function == event.function:
            text = _describe(source, before, event)
            if not (event.event == "return" and before.function == wrapper and event.depth == 1):
                yield _Step(before.line, text, event.changed)
        if event.event == "line":
            pending[event.depth] = event
        elif event.event == "exception" and event.value:
            yield _Step(event.line, f"that raises {_cut(event.value, _MAX_VALUE)}")


def _describe(source: Source, step: TraceEvent, following: TraceEvent) -> str:
    text = source.text(step.line)
    if following.event == "exception":
        return f"{text}:"
    branch = source.branch(step.line, following.line)
    if branch is not None:
        return f"{text}: {branch}"
    changed = ", ".join(f"{name} = {_cut(value, _MAX_VALUE)}" for name, value in following.changed.items())
    if changed:
        return f"{text}: {changed}"
    if following.event == "return" and text.startswith("return"):
        return f"{text}: {_cut(following.value or 'None', _MAX_VALUE)}"
    return text
