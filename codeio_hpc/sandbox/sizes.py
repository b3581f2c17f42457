"""The paper's size rules on values: how bytes are counted, and what is too large.

Bytes are counted as CPython on a 64-bit machine lays the objects out (arXiv 2502.07316 measures live objects), but
by fixed formulas, so that the verdict on a value depends on neither machine nor interpreter. Equal leaves are
counted once, as shared objects are. A list of 19 distinct small whole numbers counts 816 bytes.
"""

from __future__ import annotations

from typing import Any

from codeio_hpc.config.run import SizeRules

_LIST = 56
_DICT = 64
_DICT_HEAD = 96
_TEXT_BYTES = ((0x7F, 49, 1), (0xFF, 73, 1), (0xFFFF, 74, 2), (0x10FFFF, 76, 4))
"""Highest character, bytes of the empty text, bytes of a character."""


def _aligned(size: int) -> int:
    return (size + 7) // 8 * 8


def leaf_bytes(value: Any) -> int:
    """Bytes of a text, number, truth value or null."""
    if isinstance(value, str):
        highest = max(map(ord, value), default=0)
        base, width = next((base, width) for limit, base, width in _TEXT_BYTES if highest <= limit)
        return _aligned(base + width * len(value))
    if isinstance(value, bool):
        return 32
    if isinstance(value, int):
        return _aligned(24 + 4 * max(1, -(-abs(value).bit_length() // 30)))
    return 24 if isinstance(value, float) else 16


def _container_bytes(value: list[Any] | dict[str, Any]) -> int:
    if isinstance(value, list):
        return _LIST + 8 * len(value)
    if not value:
        return _DICT
    slots = 8
    while slots * 2 // 3 < len(value):
        slots *= 2
    return _DICT_HEAD + slots + 16 * (slots * 2 // 3)


def value_bytes(value: Any) -> int:
    """Bytes of a JSON value with everything in it."""
    return _total(value, set())


def _total(value: Any, counted: set[tuple[type, Any]]) -> int:
    if isinstance(value, list):
        return _container_bytes(value) + sum(_total(item, counted) for item in value)
    if isinstance(value, dict):
        inner = sum(_total(key, counted) + _total(item, counted) for key, item in value.items())
        return _container_bytes(value) + inner
    identity = (type(value), repr(value) if isinstance(value, float) else value)
    if identity in counted:
        return 0
    counted.add(identity)
    return leaf_bytes(value)


def oversize(value: Any, rules: SizeRules) -> str | None:
    """What of a JSON value breaks the rules, in words; None if it keeps them all.

    The limits hold for the value, every value in it, and every key: bytes in all < max_bytes, items of a container
    < max_items, characters of a text < max_string, bytes of any other leaf < max_leaf_bytes.
    """
    total = value_bytes(value)
    if total >= rules.max_bytes:
        return f"{total} bytes, not below {rules.max_bytes}"
    return _part_oversize(value, rules)


def oversize_call(arguments: Any, rules: SizeRules) -> str | None:
    """As :func:`oversize`, for a dict of arguments: their names are the code's own, and are not measured as texts."""
    total = value_bytes(arguments)
    if total >= rules.max_bytes:
        return f"{total} bytes, not below {rules.max_bytes}"
    return next((problem for value in arguments.values() if (problem := _part_oversize(value, rules))), None)


def _part_oversize(value: Any, rules: SizeRules) -> str | None:
    if isinstance(value, str):
        if len(value) < rules.max_string:
            return None
        return f"a text of {len(value)} characters, not below {rules.max_string}"
    if not isinstance(value, list | dict):
        size = leaf_bytes(value)
        return f"a number of {size} bytes, not below {rules.max_leaf_bytes}" if size >= rules.max_leaf_bytes else None
    if len(value) >= rules.max_items:
        return f"a container of {len(value)} items, not below {rules.max_items}"
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    return next((problem for part in parts if (problem := _part_oversize(part, rules))), None)
