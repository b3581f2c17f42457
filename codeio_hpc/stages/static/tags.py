"""Reading tags: what kind of reasoning a function's code asks for, told by its syntax."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from codeio_hpc.stages.static.words import words_of

TAGS = ("search", "decisions", "decomposition", "recursion", "iteration", "arithmetic", "strings")
_LOOPS = (ast.For, ast.While)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SEEKING = words_of("find index rfind rindex bisect bisect_left bisect_right min max next any")
_OF_TEXT = words_of(
    "split rsplit splitlines join strip lstrip rstrip replace upper lower title capitalize swapcase casefold "
    "startswith endswith zfill ljust rjust center isdigit isalpha isalnum isspace isupper islower partition rpartition "
    "format encode decode translate removeprefix removesuffix expandtabs ord chr"
)
_OF_NUMBERS = (ast.Sub, ast.Div, ast.FloorDiv, ast.Pow, ast.LShift, ast.RShift, ast.BitAnd, ast.BitXor, ast.BitOr)
_DECISIONS = 2


def tags_of(code: str, entry_point: str) -> list[str]:
    """The tags that fit, in the order of :data:`TAGS`; ``code`` is self-contained and parses.

    ``search``: a loop that can end early, a search by the library, or recursion inside a loop. ``decisions``: at least
    two conditions. ``decomposition``: helper functions, or recursion. The others are what they are called.
    """
    tree = ast.parse(code)
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    recursive = {name for name, node in functions.items() if name in _called(node)}
    found = {
        "search": any(_ends_early(node) for node in ast.walk(tree))
        or _SEEKING & _called(tree)
        or any(recursive & _called(loop) for loop in ast.walk(tree) if isinstance(loop, _LOOPS + _COMPREHENSIONS)),
        "decisions": sum(isinstance(node, ast.If | ast.IfExp | ast.match_case) for node in ast.walk(tree))
        >= _DECISIONS,
        "decomposition": recursive or len(_helpers(functions, entry_point)) > 0,
        "recursion": recursive,
        "iteration": any(isinstance(node, _LOOPS + _COMPREHENSIONS) for node in ast.walk(tree)),
        "arithmetic": any(_is_arithmetic(node) for node in ast.walk(tree)),
        "strings": _OF_TEXT & _called(tree) or any(isinstance(node, ast.JoinedStr) for node in ast.walk(tree)),
    }
    return [tag for tag in TAGS if found[tag]]


def _called(tree: ast.AST) -> set[str]:
    """Names of functions and methods that are called."""
    return set(_call_names(tree))


def _call_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield node.func.attr


def _helpers(functions: dict[str, ast.FunctionDef], entry_point: str) -> set[str]:
    """Functions that others call, apart from the one that the entry point merely hands its arguments to."""
    called = {name for node in functions.values() for name in _called(node) if name in functions and name != node.name}
    entry = functions.get(entry_point)
    if entry is not None and len(entry.body) == 1 and isinstance(entry.body[0], ast.Return):
        return called - _called(entry)
    return called - {entry_point}


def _ends_early(node: ast.AST) -> bool:
    """A loop with a condition under which it is left."""
    if not isinstance(node, _LOOPS):
        return False
    tests = [inner for inner in ast.walk(node) if isinstance(inner, ast.If)]
    return any(isinstance(inner, ast.Break | ast.Return) for test in tests for inner in ast.walk(test))


def _is_arithmetic(node: ast.AST) -> bool:
    """An operation on numbers: one that texts and lists do not have, or with a number written beside it."""
    if not isinstance(node, ast.BinOp | ast.AugAssign):
        return False
    sides = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.value]
    if any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides):
        return False
    if isinstance(node.op, _OF_NUMBERS):
        return True
    return any(isinstance(side, ast.Constant) and isinstance(side.value, int | float) for side in sides)
