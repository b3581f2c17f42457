"""Texts of hostile values: short, printable, without addresses and paths of the host."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

MAX_MESSAGE = 500
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_PATHS = sorted({sys.prefix, sys.base_prefix, sys.exec_prefix}, key=len, reverse=True)


def text_of(value: object, show: Callable[[object], str] = str, most: int = MAX_MESSAGE) -> str:
    """``str(value)`` or ``repr(value)`` of something hostile: short, printable, without addresses and host paths."""
    try:
        text = show(value)
        if type(text) is not str:
            text = str.__str__(text)
    except BaseException as error:  # noqa: BLE001 - __str__ of the code under test may raise anything
        return f"<{type(value).__name__}: its text cannot be shown ({type(error).__name__})>"
    return cleaned(text, most)


def cleaned(text: str, most: int) -> str:
    """Without what differs from host to host and run to run; at most ``most`` characters."""
    for path in _PATHS:
        text = text.replace(path, "<python>")
    text = _ADDRESS.sub("", text).encode("utf-8", "replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


def repr_of(value: object, most: int) -> str:
    """As ``text_of(value, repr, most)``, but of long lists, dicts and texts no more is written than is kept."""
    return text_of(value, lambda one: _begun(one, most + 1), most)


_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", dict: "{}", set: "{}"}


def _begun(value: Any, room: int) -> str:
    """``repr(value)``, or at least its first ``room`` characters. A value that holds itself is written until there is
    no room."""
    kind = type(value)
    if (kind is str or kind is bytes) and len(value) > room:
        return repr(value[:room])
    if kind not in _BRACKETS or not value:
        return repr(value)
    brackets = _BRACKETS[kind]
    text, comma = brackets[0], ""
    for item in value:
        text += comma + _begun(item, room - len(text))
        if kind is dict:
            text += ": " + _begun(value[item], room - len(text))
        if len(text) > room:
            return text
        comma = ", "
    return text + (",)" if kind is tuple and len(value) == 1 else brackets[1])
