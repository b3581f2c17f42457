"""Is what a program printed the right answer? Decided outside the jail, on bytes.

Tokens are what lies between white space. A token is compared as text, so that integers are exact at any size and
leading zeros count, unless the *expected* token is a float: then a number within 1e-6, absolute or relative, will do.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from codeio_hpc.errors import UserError

VERSION = 1
"""Raised with every change of a rule; part of ``Comparator.id``, which is stored with the verdicts."""

Rule = Literal["tokens", "lines"]

_FLOAT = re.compile(rb"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")
_NUMBER = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_LONGEST = 400
"""Bytes of a token that is read as a number: more digits than a float has."""
_MOST_CLOSE_LINES = 1000
"""In any order, and equal only within the tolerance: every one is held against every other."""


@dataclass(frozen=True, slots=True)
class Comparator:
    """How two outputs are compared."""

    rule: Rule = "tokens"
    """``tokens``: the same tokens in the same order, however they are spaced. ``lines``: the same lines, but for white
    space at their ends and empty lines at the end; nothing is taken for a number."""
    tolerance: float = 1e-6
    """For tokens where a float is expected; 0 compares the text."""
    ignore_case: bool = False
    any_order: bool = False
    """Lines may come in any order (white space aside)."""

    def __post_init__(self) -> None:
        if self.rule not in ("tokens", "lines"):
            raise UserError(f"comparator rule {self.rule!r}", "there is no such rule", "use tokens or lines")
        if not (math.isfinite(self.tolerance) and 0 <= self.tolerance < 1):
            raise UserError(
                f"comparator tolerance {self.tolerance}", "it must be from 0 to below 1", "for example 1e-6"
            )

    @property
    def id(self) -> str:
        """Rule, version and every setting that is not the default, in one word."""
        words = [f"{self.rule}/{VERSION}"]
        if self.rule == "tokens" and self.tolerance != 1e-6:
            words.append(f"tolerance={self.tolerance:g}")
        words += [name for name in ("ignore_case", "any_order") if getattr(self, name)]
        return "+".join(words)

    def equal(self, printed: bytes, expected: bytes) -> bool:
        """Whether ``printed`` is right where ``expected`` was expected."""
        if self.ignore_case:
            printed, expected = printed.lower(), expected.lower()
        if self.rule == "lines":
            mine, theirs = _lines(printed), _lines(expected)
            return sorted(mine) == sorted(theirs) if self.any_order else mine == theirs
        if not self.any_order:
            wanted = expected.split()
            # what is too much stays in one piece
            return self._same_tokens(printed.split(None, len(wanted)), wanted)
        return self._same_lines(printed, expected)

    def _same_tokens(self, printed: list[bytes], expected: list[bytes]) -> bool:
        return len(printed) == len(expected) and all(
            one == other or self._close(one, other) for one, other in zip(printed, expected, strict=True)
        )

    def _close(self, printed: bytes, expected: bytes) -> bool:
        if not self.tolerance or max(len(printed), len(expected)) > _LONGEST:
            return False
        if not (_FLOAT.fullmatch(expected) and _NUMBER.fullmatch(printed)):
            return False
        one, other = float(printed), float(expected)
        return math.isfinite(other) and abs(one - other) <= self.tolerance * max(1.0, abs(other))

    def _same_lines(self, printed: bytes, expected: bytes) -> bool:
        """Lines that are the same pair off; then each of the others takes the first that is close enough."""
        mine, theirs = Counter(_token_lines(printed)), Counter(_token_lines(expected))
        left = sorted((theirs - mine).elements())
        over = sorted((mine - theirs).elements())
        if len(left) != len(over) or len(left) > _MOST_CLOSE_LINES:
            return False
        for line in over:
            found = next((other for other in left if self._same_tokens(list(line), list(other))), None)
            if found is None:
                return False
            left.remove(found)
        return True


TOKENS = Comparator()


def _lines(text: bytes) -> list[bytes]:
    lines = [line.rstrip() for line in text.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _token_lines(text: bytes) -> Iterator[tuple[bytes, ...]]:
    return (tokens for line in text.splitlines() if (tokens := tuple(line.split())))
