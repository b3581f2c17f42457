"""The commands of a shell script, roughly."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

_BEFORE_COMMANDS = {"if", "then", "else", "elif", "do", "while", "until", "!", "{", "exec", "sudo", "env", "time"}


def commands(lines: Sequence[str], first: int) -> Iterator[tuple[int, list[str]]]:
    """The simple commands of a script, roughly: enough to see what is called with what."""
    joined, start = "", first
    for number, text in enumerate(lines, first):
        start = start if joined else number
        joined += text
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        yield from ((start, command) for command in _simple_commands(joined))
        joined = ""


def _simple_commands(text: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a quotation over several lines
        words = text.split()
    command: list[str] = []
    for word in [*words, ";"]:
        if word and set(word) <= set(";&|()"):
            if command:
                yield command
            command = []
        elif command or not (word in _BEFORE_COMMANDS or re.match(r"\w+=", word)):
            command.append(word)
