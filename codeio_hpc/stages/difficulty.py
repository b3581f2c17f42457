"""How hard a question is, estimated without a model: how much happens, in how much code, and how much is to be said."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache
from math import log2
from typing import Any

_BACKWARDS = {"output": 0.0, "input": 1.0, "function": 2.0}
"""Going from an output to an input is a step harder than the other way round, and finding the function one more."""


def difficulty(row: Mapping[str, Any], direction: str) -> float:
    """The estimate for a pair and a direction: 0 for the easiest, rarely above 20. A sum of logarithms, so that one
    more means twice as much of one thing.

    log2(1 + conditions and turns of loops) + log2(1 + operations of the code / 4) + log2(1 + characters of the answer
    / 8), and 1 more for predicting an input, 2 for finding the function.
    """
    answer = row[{"output": "output", "input": "input", "function": "code"}[direction]]
    parts = (row["steps"] or 0, operations(row["code"]) / 4, len(answer) / 8)
    return round(sum(log2(1 + part) for part in parts) + _BACKWARDS[direction], 3)


def answer_difficulty(answer: str) -> float:
    """The estimate where nothing but the answer is known: that of code that does nothing."""
    return round(log2(1 + len(answer) / 8), 3)


@lru_cache(maxsize=64)
def operations(code: str) -> int:
    """Calls, operators, comparisons, subscripts and branches in the code."""
    kinds = (
        ast.Call,
        ast.BinOp,
        ast.BoolOp,
        ast.UnaryOp,
        ast.Compare,
        ast.Subscript,
        ast.AugAssign,
        ast.If,
        ast.IfExp,
        ast.For,
        ast.While,
        ast.comprehension,
    )
    return sum(isinstance(node, kinds) for node in ast.walk(ast.parse(code)))
