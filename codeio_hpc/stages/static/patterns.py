"""Texts that a regular expression matches, made from its parse tree."""

from __future__ import annotations

import random
import re
import warnings
from typing import Any

_parser: Any = getattr(re, "_parser")  # noqa: B009 - a private module, the only access to the parse tree
_CATEGORIES = {
    "CATEGORY_DIGIT": "0123456789",
    "CATEGORY_NOT_DIGIT": "abcXYZ -",
    "CATEGORY_SPACE": "  \n",
    "CATEGORY_NOT_SPACE": "abcABC019_.-",
    "CATEGORY_WORD": "abcdefxyzABC019_",
    "CATEGORY_NOT_WORD": " .,-;",
}
_PRINTABLE = [chr(code) for code in range(32, 127)]
_LONGEST = 60
_LONGEST_PATTERN = 300
_SEVERAL = 8
"""Repeats of up to so many times cannot multiply into much."""


def matches_of(pattern: str, flags: int, count: int) -> list[str]:
    """Up to ``count`` different short texts that the whole pattern matches, always the same; [] where it is too rich.

    Look-arounds and anchors are ignored while writing, so every text is tried before it is given out. Patterns with
    which that could take exponential time are too rich: nobody has read them.
    """
    if len(pattern) > _LONGEST_PATTERN:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = re.compile(pattern, flags)
            tree = _parser.parse(pattern, flags)
    except (re.error, RecursionError, OverflowError, ValueError, TypeError):
        return []
    if _may_explode(tree, repeated=False):
        return []
    chance = random.Random(f"{pattern}/{flags}")
    found: list[str] = []
    for _ in range(3 * count):
        try:
            text = _sequence(tree, chance, {})
        except (RecursionError, KeyError, IndexError):
            return found
        if 0 < len(text) <= _LONGEST and text not in found and compiled.search(text):
            found.append(text)
    return found[:count]


def _may_explode(items: Any, repeated: bool) -> bool:
    """Whether a repeat or a choice stands inside a repeat: ways to match can then double with each letter."""
    for operator, argument in items:
        name = str(operator)
        if name.endswith("_REPEAT"):
            many = int(argument[1]) > _SEVERAL
            if (many and repeated) or _may_explode(argument[2], repeated or many):
                return True
        elif name == "BRANCH":
            if repeated or any(_may_explode(part, repeated) for part in argument[1]):
                return True
        elif name == "SUBPATTERN":
            if _may_explode(argument[3], repeated):
                return True
        elif (name in ("ASSERT", "ASSERT_NOT") and _may_explode(argument[1], repeated)) or name == "ATOMIC_GROUP":
            return True
    return False


def _sequence(items: Any, chance: random.Random, groups: dict[int, str]) -> str:
    text = ""
    for operator, argument in items:
        text += _one(str(operator), argument, chance, groups)
        if len(text) > _LONGEST:
            break
    return text


def _one(operator: str, argument: Any, chance: random.Random, groups: dict[int, str]) -> str:
    match operator:
        case "LITERAL":
            return chr(argument)
        case "NOT_LITERAL":
            return chance.choice([letter for letter in "abcxyz019 " if ord(letter) != argument])
        case "ANY":
            return chance.choice("abcdex12 _")
        case "IN":
            return chance.choice(_members(argument))
        case "BRANCH":
            return _sequence(chance.choice(argument[1]), chance, groups)
        case "SUBPATTERN":
            groups[argument[0]] = _sequence(argument[3], chance, groups)
            return groups[argument[0]]
        case "GROUPREF":
            return groups[argument]
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            low, high, inner = argument
            times = chance.randint(int(low), min(int(high), int(low) + 3))
            return "".join(_sequence(inner, chance, groups) for _ in range(times))
        case "ASSERT":
            return _sequence(argument[1], chance, groups) if argument[0] > 0 else ""
    return ""


def _members(items: Any) -> list[str]:
    found: list[str] = []
    negated = False
    for operator, argument in items:
        match str(operator):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found.append(chr(argument))
            case "RANGE":
                found += [chr(code) for code in range(argument[0], min(argument[1], argument[0] + 40) + 1)]
            case "CATEGORY":
                found += _CATEGORIES[str(argument)]
    if negated:
        return [letter for letter in _PRINTABLE if letter not in found] or [""]
    return found or [""]
