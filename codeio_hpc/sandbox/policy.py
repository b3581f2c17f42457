"""What untrusted code may use: limits, isolation levels, kinds of jail."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, cast

from codeio_hpc.errors import UserError

Level = Literal["nsjail", "landlock+seccomp", "seccomp", "none"]
LEVELS: tuple[Level, ...] = ("nsjail", "landlock+seccomp", "seccomp", "none")
"""From the strongest to the weakest; tried in this order."""

Kind = Literal["plain", "scientific", "native"]
"""Of jail: Python with the standard library, Python with numpy too, compiled programs."""

RUNS_PER_ZYGOTE = 10_000
"""A zygote is replaced after so many runs, whatever its health: nothing may build up."""

MAX_STDIN_BYTES = 256 * 2**20
"""Largest standard input, and largest native program."""

MAX_REQUEST_BYTES = 16 * 2**20
"""Largest request (code and one input) that a jail takes."""

STACK_BYTES = 256 * 2**20
"""Compiled programs recurse on the stack that the system gives them, and judges give them as much as memory."""

MAX_DEPTH = 64
"""Deepest nesting of a value that goes in or comes out."""

_SIZES = {"memory_bytes", "output_bytes"}
_MOST_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Limits:
    """What one execution may use."""

    cpu_seconds: float = 5.0
    wall_seconds: float | None = None
    """Default: twice the CPU limit and 2 s, so that a busy node does not turn into timeouts."""
    memory_bytes: int = 2 * 2**30
    """Address space of the process, the interpreter and its libraries included."""
    output_bytes: int = 2**20
    """Length of the value returned, as JSON text."""

    def __post_init__(self) -> None:
        _check("cpu_seconds", self.cpu_seconds, 0.01, _MOST_SECONDS)
        _check("memory_bytes", self.memory_bytes, 64 * 10**6, 2**46)
        _check("output_bytes", self.output_bytes, 2, 2**30)
        if self.wall_seconds is not None:
            _check("wall_seconds", self.wall_seconds, 0.01, _MOST_SECONDS)

    @property
    def wall(self) -> float:
        """The wall-clock limit in seconds."""
        return self.wall_seconds if self.wall_seconds is not None else 2 * self.cpu_seconds + 2

    def patient(self) -> Limits:
        """For the second run after a timeout: the same CPU, three times the wall time."""
        return replace(self, wall_seconds=3 * self.wall)

    def updated(self, changes: Mapping[str, object]) -> Limits:
        """These limits with some replaced by name.

        Raises:
            UserError: an unknown name or a value that is not a number in range.
        """
        known = [field.name for field in fields(self)]
        values: dict[str, float | int] = {}
        for name, value in changes.items():
            if name not in known:
                raise UserError(f"limit {name!r}", "there is no such limit", f"use one of {', '.join(known)}")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(
                    f"limit {name}={value!r}",
                    "a limit is a number",
                    f"for example {name}={getattr(self, name) or 10:g}",
                )
            values[name] = int(value) if name in _SIZES else float(value)
        return replace(self, **cast("dict[str, int]", values))

    @classmethod
    def parse(cls, settings: Sequence[str]) -> Limits:
        """The defaults with what ``key=value`` words change."""
        return cls().updated(limit_changes(settings))


def limit_changes(settings: Sequence[str]) -> dict[str, object]:
    """Limits by name, from ``key=value`` words as on the command line; sizes may end in K, M or G."""
    changes: dict[str, object] = {}
    for word in settings:
        name, _, text = word.partition("=")
        factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:].upper(), 1)
        try:
            changes[name] = float(text[:-1] if factor > 1 else text) * factor
        except ValueError:
            raise UserError(
                f"limit {word!r}", "a limit is written name=number", "for example cpu_seconds=5 memory_bytes=2G"
            ) from None
    return changes


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UserError(f"limit {name}={value}", f"it must lie between {least:,} and {most:,}", "give another number")


PROGRAM_LIMITS = Limits(cpu_seconds=6.0, memory_bytes=2 * 10**9, output_bytes=16 * 2**20)
"""Of a test of a program that names none."""


def level_index(level: str) -> int:
    """Place in ``LEVELS``.

    Raises:
        UserError: there is no such level.
    """
    if level not in LEVELS:
        raise UserError(f"isolation level {level!r}", "there is no such level", f"use one of {', '.join(LEVELS)}")
    return LEVELS.index(level)


def kind_of(*sources: str | None) -> Kind:
    """Which jail the code needs: ``scientific`` if it imports anything outside the standard library.

    Code that does not parse is ``plain``: it will fail the same way in either.
    """
    for source in sources:
        if source and not _imports(source) <= sys.stdlib_module_names:
            return "scientific"
    return "plain"


def check_seeds(*sources: str | None) -> tuple[int, ...]:
    """The hash seeds under which a determinism check runs the code again.

    Two seeds may agree by chance where there are few orders to choose from. Code that names sets, hashes or random
    choices, where that can happen, is run under more of them; one more is enough for the rest.
    """
    return (1, 2, 3) if any(source and _is_unordered(source) for source in sources) else (1,)


_UNORDERED_TEXT = """
    set frozenset Set FrozenSet MutableSet union intersection difference symmetric_difference hash id random randint
    shuffle choice choices sample uuid uuid4 secrets vars globals
"""
_UNORDERED_NAMES = frozenset(_UNORDERED_TEXT.split())
"""Sets, hashes and random choices: builtins, methods and members of modules."""


def _is_unordered(source: str) -> bool:
    """Whether the code names anything whose order or value may change from process to process. Too wide rather than
    too narrow: operators that make sets of keys count, whatever becomes of these."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return any(map(_is_unordered_node, ast.walk(tree)))


def _is_unordered_node(node: ast.AST) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
            return name in _UNORDERED_NAMES
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr() | ast.BitXor() | ast.Sub(), left=left, right=right):
            return any(map(_is_view, (left, right)))
    return False


def _is_view(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="keys" | "items")):
            return True
    return False


_IMPORT = re.compile(r"\bimport\b")
_ONE_IMPORT = re.compile(
    r"\s*(?:import\s+(\w+)(?:\.\w+)*(?:\s+as\s+\w+)?|from\s+(\w+)(?:\.\w+)*\s+import\s[^;\\]*)\s*(?:#.*)?"
)


def _imports(source: str) -> set[str]:
    lines = [line for line in re.split(r"\r\n?|\n", source) if _IMPORT.search(line)]
    simple = [_ONE_IMPORT.fullmatch(line) for line in lines]
    names = {found[1] or found[2] for found in simple if found}
    if None not in simple and names <= sys.stdlib_module_names:
        return names  # whether they are code or text in a string; this costs a tenth of what the parser does
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found: set[str] = set()
    nodes: list[ast.AST] = [tree]
    while nodes:  # statements alone, which hold no others but in lists: expressions are most of a tree
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        for field in _HOLD_STATEMENTS:
            inner = getattr(node, field, None)
            nodes += inner if isinstance(inner, list) else ()
    return found


_HOLD_STATEMENTS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Fields of statements, of exception handlers and of ``match`` cases."""

_STANDARD = """
    abc argparse array base64 bisect calendar cmath collections collections.abc contextlib copy csv dataclasses
    datetime decimal enum fractions functools hashlib heapq io itertools json logging math numbers operator
    pprint queue random re secrets statistics string struct textwrap threading time traceback types typing
    unicodedata unittest uuid warnings zlib __future__ difflib inspect ast
"""

PRELOADED: dict[Kind, tuple[str, ...]] = {
    "plain": tuple(_STANDARD.split()),
}
"""Imported by the zygote before any sample: an import in the sample itself would be paid for by every run."""

PRELOADED["native"] = ()

PRELOADED["scientific"] = (
    *PRELOADED["plain"],
    # numpy loads its parts at first use: without them here every run pays 10 ms
    *("numpy", "numpy.random", "numpy.linalg", "numpy.fft", "numpy.ma", "numpy.polynomial"),
)
