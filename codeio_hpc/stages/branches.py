"""Measuring which branches an execution takes, and how much it does: by a copy of the code with counters in it.

Python's own tracing of lines sees neither a conditional expression nor the condition of a comprehension, and slows
loops down by an order of magnitude. The counters cost two calls each, and the copy runs on any Python. They also bound
an execution by what it does, which no clock can: the same code is given up on a busy machine and on an idle one.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MEASURED = "codeio_measured"
_TURN = "codeio_turn"
"""Counts the turns of a loop whose condition is a constant, which is no branch."""
_PRELUDE = """\
codeio_taken = set()
codeio_steps = 0
codeio_most = float("inf")


class CodeioTooManySteps(BaseException):
    pass


def codeio_step():
    global codeio_steps
    codeio_steps += 1
    if codeio_steps > codeio_most:
        raise CodeioTooManySteps


def codeio_test(number, value):
    codeio_step()
    held = bool(value)
    codeio_taken.add(2 * number + held)
    return held


def codeio_turn(number, value):
    codeio_step()
    return value


def codeio_loop(number, items):
    turns = 0
    for item in items:
        turns = 1
        codeio_taken.add(2 * number + 1)
        codeio_step()
        yield item
    if not turns:
        codeio_taken.add(2 * number)


"""
_ENTRY = """


def {measured}(**codeio_given):
    global codeio_steps, codeio_most
    codeio_taken.clear()
    codeio_steps, codeio_most = 0, {most_steps}
    try:
        codeio_output = {entry_point}(**codeio_given)
    except BaseException:
        if codeio_steps <= codeio_most:
            raise
        codeio_output = None
    return {{"output": codeio_output, "branches": sorted(codeio_taken), "steps": codeio_steps}}
"""


@dataclass(frozen=True)
class Measured:
    """Code that defines :data:`MEASURED`, which gives {"output", "branches": outcomes taken, "steps"}.

    Outcome ``2 n + 1`` of branch *n*: its condition held, or its loop had an item; ``2 n``: it did not, or had none.
    ``steps`` counts conditions evaluated and turns of loops; an execution of more than ``most_steps`` is given up, and
    its output means nothing.
    """

    code: str
    branches: int
    """Conditions and loops inside functions; each has two outcomes."""
    most_steps: int

    def is_given_up(self, reading: Reading) -> bool:
        """Whether the execution had more steps than it may."""
        return reading.steps > self.most_steps


@dataclass(frozen=True)
class Reading:
    """What one execution of measured code says."""

    output: Any
    branches: frozenset[int]
    steps: int

    @classmethod
    def of(cls, value: Any) -> Reading:
        """From the value that :data:`MEASURED` returned. Untrusted code shares its interpreter and may forge it."""
        try:
            taken = frozenset(int(outcome) for outcome in value["branches"][:100_000])
            return cls(value["output"], taken, min(int(value["steps"]), 2**31 - 1))
        except (TypeError, KeyError, ValueError, OverflowError):
            return cls(None, frozenset(), 0)


def measured(code: str, entry_point: str, most_steps: int) -> Measured | None:
    """A copy of the code that counts; None where none can be made (it uses the counters' names, or is too deep)."""
    if "codeio_" in code:
        return None
    try:
        tree = ast.parse(code)
        found = list(_branches(tree))
        head = _first_line(tree)
        text = _insert(code, found, head) + _ENTRY.format(
            measured=MEASURED, entry_point=entry_point, most_steps=most_steps
        )
        compile(text, "<measured>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return Measured(text, sum(counter != _TURN for _, counter in found), most_steps)


def _branches(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """Every condition and every iterable inside a function, in the order of the text, and which counter it gets."""
    found: list[tuple[ast.expr, str]] = []
    todo: list[tuple[ast.AST, bool]] = [(tree, False)]
    while todo:
        node, inside = todo.pop()
        if isinstance(node, ast.JoinedStr):
            continue  # positions inside formatted strings are not reliable before Python 3.12
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if inside:
            found += [one for one in _of(node) if one[1] == _TURN or not isinstance(one[0], ast.Constant)]
        todo += [(child, inside) for child in ast.iter_child_nodes(node)]
    yield from sorted(found, key=lambda one: (_start(one[0]), _end(one[0])))


def _of(node: ast.AST) -> list[tuple[ast.expr, str]]:
    if isinstance(node, ast.While) and isinstance(node.test, ast.Constant):
        return [(node.test, _TURN)]
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        return [(node.test, "codeio_test")]
    if isinstance(node, ast.For):
        return [(node.iter, "codeio_loop")]
    if isinstance(node, ast.comprehension):
        loops = [] if node.is_async else [(node.iter, "codeio_loop")]
        return [*loops, *((test, "codeio_test") for test in node.ifs)]
    if isinstance(node, ast.match_case) and node.guard is not None:
        return [(node.guard, "codeio_test")]
    return []


def _start(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.expr) -> tuple[int, int]:
    return node.end_lineno or 0, node.end_col_offset or 0


def _first_line(tree: ast.Module) -> int:
    """The line before which statements may be put: behind the docstring and imports from ``__future__``."""
    for number, node in enumerate(tree.body):
        docstring = number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not docstring and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            decorators: list[ast.expr] = getattr(node, "decorator_list", [])
            return min([node.lineno, *(decorator.lineno for decorator in decorators)])
    raise ValueError("no statement")


def _insert(code: str, found: list[tuple[ast.expr, str]], head: int) -> str:
    """The text with each expression wrapped in a call of its counter. Positions count bytes of UTF-8."""
    marks: list[tuple[tuple[int, int], int, tuple[int, int], str]] = []
    numbers = itertools.count()
    for node, counter in found:
        number = -1 if counter == _TURN else next(numbers)
        start, end = _start(node), _end(node)
        # where one ends and another begins, and for nested ones, the inner is closed first and opened last
        marks.append((end, 0, (-start[0], -start[1]), "))"))
        marks.append((start, 1, (-end[0], -end[1]), f"{counter}({number}, ("))
    lines = [line.encode("utf-8") for line in code.split("\n")]
    for (line, column), _, _, text in sorted(marks, reverse=True):
        data = lines[line - 1]
        lines[line - 1] = data[:column] + text.encode("utf-8") + data[column:]
    texts = [line.decode("utf-8") for line in lines]
    return "\n".join([*texts[: head - 1], _PRELUDE + texts[head - 1], *texts[head:]])
