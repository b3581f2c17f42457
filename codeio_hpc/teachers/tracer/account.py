"""From a line trace to a short true account in words."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from codeio_hpc.sandbox import TraceEvent

MAX_STEPS = 10
"""Steps told one by one; what lies between them is summed up where it lies."""
_LAST_STEPS = 3
_REPEATS = 2
"""A line that runs again and again is told this often."""
_MAX_SOURCE = 60
_MAX_VALUE = 40
_MOST_CONDITIONS = 3
_MAX_NAMES = 3
_MAX_USED = 4
"""Values told of steps that are left out: those that the next steps told use, or else the last ones."""
_LAZY = re.compile(r"<(?:generator|filter|map|zip|enumerate|reversed|range_iterator)\b.* object\b")
"""What gives its items later: it has no value to tell yet."""
_NUMPY_NUMBER = re.compile(r"\bnp\.(?:float|int|uint|bool)\w*\(([^()]*)\)")
_DEFAULTDICT = re.compile(r"\bdefaultdict\(<[^{]*?>, (\{[^{}]*\}?)\)?")


@dataclass(frozen=True)
class _Step:
    """One executed line in words, and the values it changed."""

    line: int
    text: str
    changed: Mapping[str, str] = field(default_factory=dict)
    leaves: bool = False
    """It is the head of a loop that is over."""
    calls: str = ""
    """The name of the function whose run begins with this step, inside another run of the same function."""


class Source:
    """The traced code: its lines, and where the bodies of its branches begin."""

    def __init__(self, code: str) -> None:
        self._lines = _without_comments(code)
        self._remarks: set[int] = set()
        self._definitions: dict[int, str] = {}
        """Lines of definitions, each with the function whose body runs on it, if one does."""
        self._first: dict[int, int] = {}
        self._bodies: dict[int, tuple[int, int]] = {}
        self._loops: dict[int, tuple[int, int]] = {}
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                self._remarks.add(node.lineno)
            if isinstance(node, ast.stmt) and not hasattr(node, "body") and node.end_lineno != node.lineno:
                self._join(node.lineno, node.end_lineno or node.lineno)
            if isinstance(node, ast.FunctionDef):
                self._definitions |= {decorator.lineno: "" for decorator in node.decorator_list}
                self._definitions[node.lineno] = ""
                if node.body[0].lineno == node.lineno:  # all in one line
                    self._lines[node.lineno - 1] = self._lines[node.lineno - 1][_column(code, node.body[0]) :]
                    self._definitions[node.lineno] = node.name
            if isinstance(node, ast.If | ast.While | ast.For):
                if node.body[0].lineno == node.lineno:
                    self._lines[node.lineno - 1] = self._lines[node.lineno - 1][: _column(code, node.body[0])]
                body = (node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno)
                if not isinstance(node, ast.For):
                    self._bodies[node.lineno] = body
                if not isinstance(node, ast.If):
                    self._loops[node.lineno] = body

    def text(self, line: int) -> str:
        """The line's source, without indentation or a trailing colon, cut to a readable length."""
        line = self._first.get(line, line)
        text = self._lines[line - 1].strip().rstrip(":") if 0 < line <= len(self._lines) else "?"
        return _cut(text, _MAX_SOURCE)

    def branch(self, line: int, following: int) -> str | None:
        """Whether the condition on ``line`` held, told by the line that ran next; None if it is no branch."""
        body = self._bodies.get(line)
        if body is None:
            return None
        return "yes" if body[0] <= following <= body[1] and following != line else "no"

    def _join(self, first: int, last: int) -> None:
        """Make one line of a statement's lines."""
        self._lines[first - 1] = " ".join(line.strip() for line in self._lines[first - 1 : last])
        self._first |= dict.fromkeys(range(first, last + 1), first)

    def same_statement(self, line: int, following: int) -> bool:
        """Whether both are lines of one statement that is written over several lines."""
        return line in self._first and self._first[line] == self._first.get(following)

    def is_silent(self, line: int, function: str) -> bool:
        """Whether nothing happens there that a reader wants to be told: a text on its own, a definition."""
        return line in self._remarks or self._definitions.get(line, function) != function

    def is_loop(self, line: int) -> bool:
        """Whether a loop's head stands on the line."""
        return line in self._loops

    def leaves_loop(self, line: int, following: int) -> bool:
        """Whether the loop whose head is on ``line`` is over when ``following`` runs next."""
        body = self._loops.get(line)
        return body is not None and not body[0] <= following <= body[1]


def _column(code: str, node: ast.stmt) -> int:
    """Where a statement begins in its line, in characters."""
    return len(code.splitlines()[node.lineno - 1].encode()[: node.col_offset].decode())


def _without_comments(code: str) -> list[str]:
    lines = code.splitlines()
    with suppress(tokenize.TokenError, SyntaxError):
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.COMMENT and token.start[0] <= len(lines):
                lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]].rstrip()
    return lines


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _value(text: str) -> str:
    """A value's repr as a reader would write it, cut to a readable length."""
    return _cut(_DEFAULTDICT.sub(r"\1", _NUMPY_NUMBER.sub(r"\1", text)), _MAX_VALUE)


def _told(values: Mapping[str, str]) -> str:
    """Names and values; functions and classes have none that could be read."""
    shown = {name: text for name, text in values.items() if not text.startswith(("<func", "<class", "<bound"))}
    return ", ".join(f"{name} = {_value(text)}" for name, text in shown.items())


def tell(code: str, trace: Sequence[TraceEvent]) -> list[str]:
    """The executed steps in words, in order: at most :data:`MAX_STEPS`, and where steps are left out, how many and what
    values they led to."""
    source = Source(code)
    steps = list(_steps(source, trace))
    chosen = _chosen(steps)
    told: list[str] = []
    for number, step in enumerate(steps):
        if number in chosen:
            told.append(step.text)
        elif number == 0 or number - 1 in chosen:
            end = next((later for later in range(number, len(steps)) if later in chosen), len(steps))
            next_told = [steps[later].text for later in range(end, len(steps)) if later in chosen]
            told.append(_summary(source, steps[number:end], " ".join(next_told)))
    return told


def conditions(code: str, trace: Sequence[TraceEvent]) -> list[str]:
    """What the run's conditions came to, in the order in which they were met first: what a reader who goes backwards
    has to bring about."""
    source = Source(code)
    outcomes: dict[str, set[str]] = {}
    pending: dict[int, TraceEvent] = {}
    for event in trace:
        before = pending.pop(event.depth, None)
        if before is not None and before.function == event.function and event.event != "exception":
            held = source.branch(before.line, event.line)
            if held is not None:
                outcomes.setdefault(_condition(source.text(before.line)), set()).add(held)
        if event.event == "line":
            pending[event.depth] = event
    words = {"yes": "holds", "no": "does not hold"}
    return [
        f"{text} {words[next(iter(held))] if len(held) == 1 else 'holds at first, and then no more'}"
        if text.startswith("while ") or len(held) == 1
        else f"{text} holds at times"
        for text, held in outcomes.items()
    ][:_MOST_CONDITIONS]


def _condition(text: str) -> str:
    """``if n > 3`` → ``n > 3``; of a loop the head stays as it is."""
    for word in ("if ", "elif "):
        if text.startswith(word):
            return text.removeprefix(word)
    return text


def result_of(code: str, trace: Sequence[TraceEvent]) -> str | None:
    """The expression that gave the result: of the last return that has more to it than a call of another function of
    the code. None where there is none: the function ends without a return."""
    source = Source(code)
    place = len(trace) - 1
    if place < 1 or trace[place].event != "return":
        return None
    # a wrapper returns what the function inside it has returned: go inside as long as the value stays the same
    while place > 1 and trace[place - 1].event == "return" and trace[place - 1].value == trace[place].value:
        if trace[place - 1].depth != trace[place].depth + 1:
            break
        place -= 1
    text = source.text(trace[place].line)
    return text.removeprefix("return").strip() if re.match(r"return\b.", text) else None


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
    told = set(chosen)
    single = {number for number in range(len(steps)) if {number - 1, number + 1} <= told}  # as short told as left out
    return told | single


def _summary(source: Source, steps: Sequence[_Step], told_next: str) -> str:
    """Steps that are left out: how many, or how many rounds and calls they are, and the values that they led to."""
    values: dict[str, str] = {}
    for step in steps:
        for name, value in step.changed.items():
            values.pop(name, None)  # the latest change comes last
            values[name] = value
    words = set(re.findall(r"\w+", told_next))
    names = [name for name in values if name in words][-_MAX_USED:] or list(values)[-_MAX_NAMES:]
    shown = _told({name: values[name] for name in names})
    count = _count(source, steps)
    return f"({count}, then {shown})" if shown else f"({count})"


def _count(source: Source, steps: Sequence[_Step]) -> str:
    heads = Counter(step.line for step in steps if source.is_loop(step.line) and not step.leaves)
    rounds = max(heads.values(), default=0)
    calls = Counter(step.calls for step in steps if step.calls)
    parts = [f"{name} calls itself {_times(times)} more" for name, times in sorted(calls.items())]
    if rounds > 1:
        parts.append(f"{rounds} more rounds")
    return ", ".join(parts) or f"{len(steps)} more step{'s' * (len(steps) > 1)}"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _steps(source: Source, trace: Sequence[TraceEvent]) -> Iterator[_Step]:
    """Pair each ``line`` event with what the frame's next event says it changed."""
    pending: dict[int, TraceEvent] = {}
    running: list[str] = []
    began = ""
    inside = any(event.event == "call" and event.depth == 2 for event in trace)
    told_outside = not inside or sum(event.event == "line" and event.depth == 1 for event in trace) > 1
    first = True
    for event in trace:
        if event.function.startswith("<") and event.function != "<module>":
            continue  # the inside of a comprehension or lambda: its line has been told
        if event.event == "call":
            del running[event.depth - 1 :]
            began = event.function if event.function in running else ""
            running.append(event.function)
            wrapped = first and event.depth == 2 and not told_outside  # its arguments are those of the question
            first = first and event.depth < 2
            if event.depth > 1 and not wrapped:
                given = _told(event.changed)
                yield _Step(event.line, f"in {event.function}: {given}".rstrip(": "), {}, False, began)
                began = ""
        before = pending.pop(event.depth, None)
        if before is not None and event.event == "line" and source.same_statement(before.line, event.line):
            pending[event.depth] = before
            continue
        if before is not None and before.function == event.function:
            text = _describe(source, before, event)
            handed_on = event.event == "return" and event.depth == 1 and not told_outside
            if not handed_on and not source.is_silent(before.line, before.function):
                yield _Step(before.line, text, event.changed, source.leaves_loop(before.line, event.line), began)
                began = ""
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
    changed = _told(following.changed)
    if not changed and source.leaves_loop(step.line, following.line):
        return f"{text}: no more"
    if changed.replace(" ", "") == text.replace(" ", ""):  # n = 0: n = 0
        return text
    if changed:
        return f"{text}: {changed}"
    if following.event == "return" and text.startswith("return") and not _LAZY.match(following.value or ""):
        return f"{text}: {_value(following.value or 'None')}"
    return text
