"""Calls with literal arguments that a file shows: doctests, asserts and call sites."""

from __future__ import annotations

import ast
import doctest
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from codeio_hpc.stages.static.module import Module

_PARSER = doctest.DocTestParser()
ShownCall = tuple[ast.Call, Literal["doctest", "call"]]
"""A call, and where it stands."""
_MOST = 12
"""Examples kept of one function."""


@dataclass(frozen=True)
class Example:
    """One call: values by parameter name (only those given), and where it stands."""

    arguments: dict[str, Any]
    origin: Literal["doctest", "call"]


def shown_calls(module: Module) -> dict[str, list[ShownCall]]:
    """All calls of plain or last-attribute names in the file's doctests and code, by that name, in order."""
    found: dict[str, list[ShownCall]] = {}
    trees: list[tuple[ast.AST, Literal["doctest", "call"]]] = [
        *((tree, "doctest") for tree in _doctest_trees(module)),
        (module.tree, "call"),
    ]
    for tree, origin in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (node.args or node.keywords):
                function = node.func
                name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
                if name:
                    found.setdefault(name, []).append((node, origin))
    return found


def _doctest_trees(module: Module) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            text = ast.get_docstring(node, clean=True) or ""
            if ">>>" in text:
                yield from _parse_examples(text)


def _parse_examples(text: str) -> Iterator[ast.AST]:
    try:
        examples = _PARSER.get_examples(text)
    except ValueError:  # inconsistent leading white space
        return
    for example in examples:
        try:
            yield ast.parse(example.source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue


def examples_of(node: ast.FunctionDef, calls: list[ShownCall]) -> list[Example]:
    """The calls of this function whose arguments are all literals, distinct, doctests first."""
    positional = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    known = {*positional, *(argument.arg for argument in node.args.kwonlyargs)}
    found: list[Example] = []
    seen: set[str] = set()
    for call, origin in calls:
        arguments = _literal_arguments(call, positional, known)
        if arguments and repr(arguments) not in seen and len(found) < _MOST:
            seen.add(repr(arguments))
            found.append(Example(arguments, origin))
    return found


def _literal_arguments(call: ast.Call, positional: list[str], known: set[str]) -> dict[str, Any] | None:
    if len(call.args) > len(positional) or any(isinstance(argument, ast.Starred) for argument in call.args):
        return None
    given: dict[str, ast.expr] = dict(zip(positional, call.args, strict=False))
    for keyword in call.keywords:
        if keyword.arg not in known:
            return None
        given[keyword.arg] = keyword.value
    try:
        values = {name: ast.literal_eval(value) for name, value in given.items()}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return values if all(map(plain, values.values())) and len(repr(values)) < 600 else None


def plain(value: Any) -> bool:
    """Whether JSON can carry it, perhaps as something else: no complex numbers, NaN, Ellipsis, odd keys."""
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(plain, value.values()))
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, bytes):
        return value.isascii()
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or (isinstance(value, float) and math.isfinite(value))


def as_json(value: Any) -> Any:
    """The JSON form in which a generated input carries the value: lists for tuples and sets, text for bytes."""
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((as_json(item) for item in value), key=repr)
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return value.decode("ascii") if isinstance(value, bytes) else value
