"""Lists of words, written as running text."""

from __future__ import annotations


def words_of(text: str) -> frozenset[str]:
    """The words of a text that is divided by spaces."""
    return frozenset(text.split())
