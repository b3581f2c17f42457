"""Finding the answer in a response: the last complete JSON object with the wanted field.

Models write fenced JSON, bare JSON, Python literals, or a ``\\boxed{…}``; all are read, none is evaluated.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_RESPONSE = 100_000
"""Characters looked at, from the end: an answer stands last."""
_MAX_CANDIDATES = 200


@dataclass(frozen=True)
class Extracted:
    """What was found. ``problem`` says in words why nothing was; then ``value`` means nothing."""

    value: Any = None
    problem: str | None = None


def extract(response: str, field: str) -> Extracted:
    """The value of ``field`` in the response's last complete JSON object."""
    objects = _last_objects(response[-MAX_RESPONSE:])
    fallback = "there is no complete JSON object in the answer"
    for text in objects:
        value = _read(text)
        if not isinstance(value, dict):
            continue
        if field in value:
            return Extracted(value[field])
        fallback = f'the last JSON object has no field "{field}"'
    return Extracted(problem=fallback)


def _last_objects(text: str) -> Iterator[str]:
    """Balanced ``{…}`` stretches, outermost, the last one first; braces within strings do not count."""
    spans = list(_spans(text))
    yield from (text[start:end] for start, end in reversed(spans[-_MAX_CANDIDATES:]))


def _spans(text: str) -> Iterator[tuple[int, int]]:
    position = 0
    while (start := text.find("{", position)) >= 0:
        end = _closing(text, start)
        if end is None:
            position = start + 1
            continue
        yield start, end
        # \boxed{{"output": 1}}: what stands inside counts too
        inner = text[start + 1 : end - 1].strip()
        if inner.startswith("{"):
            offset = text.index(inner, start + 1)
            yield offset, offset + len(inner)
        position = end


def _closing(text: str, start: int) -> int | None:
    depth, quote, place = 0, "", start
    while place < len(text):
        letter = text[place]
        if quote:
            if letter == "\\":
                place += 1
            elif letter == quote:
                quote = ""
        elif letter == '"' or (letter == "'" and _opens_string(text, place)):
            quote = letter
        elif letter in "{[":
            depth += 1
        elif letter in "}]":
            depth -= 1
            if depth == 0:
                return place + 1
        place += 1
    return None


def _opens_string(text: str, place: int) -> bool:
    """A ``'`` opens a Python string where a value may stand; elsewhere it is an apostrophe."""
    before = text[:place].rstrip()[-1:]
    return before in ("{", "[", ",", ":", "(")


def _read(text: str) -> Any:
    """The value of a JSON or Python literal; None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return _jsonable(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _jsonable(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_jsonable(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{type(value).__name__} is not JSON")
