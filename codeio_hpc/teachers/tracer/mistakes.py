"""Wrong on purpose: plausible mistakes, so that there is something to revise."""

from __future__ import annotations

import random
from typing import Any


def mistaken(value: Any, choice: random.Random) -> Any:
    """A value near ``value`` that differs from it in the way people and models slip."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + choice.choice([-1, 1])
    if isinstance(value, float):
        return value + choice.choice([-0.5, 0.5, 1.0])
    if isinstance(value, str):
        return _text(value, choice)
    if isinstance(value, list):
        return _list(value, choice)
    if isinstance(value, dict):
        return _table(value, choice)
    return 0


def _text(value: str, choice: random.Random) -> str:
    if not value:
        return "a"
    place = choice.randrange(len(value))
    if choice.random() < 0.5:
        return value[:place] + value[place + 1 :]
    return value[:place] + value[place] + value[place:]


def _list(value: list[Any], choice: random.Random) -> list[Any]:
    if not value:
        return [0]
    place = choice.randrange(len(value))
    if choice.random() < 0.5:
        return value[:place] + value[place + 1 :]
    return [*value[:place], mistaken(value[place], choice), *value[place + 1 :]]


def _table(value: dict[str, Any], choice: random.Random) -> dict[str, Any]:
    if not value:
        return {"a": 0}
    key = choice.choice(list(value))
    return {**value, key: mistaken(value[key], choice)}
