"""Numbers in messages."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """As people count: ``1 step``, ``3,438 steps``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
