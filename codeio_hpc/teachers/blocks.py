"""Fenced blocks of code in what a language model wrote."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n`]*$", re.MULTILINE)
_PYTHON = {"", "python", "py", "python3", "python2", "py3"}


@dataclass(frozen=True)
class Block:
    """A fenced block: where its content stands in the text, and what it is."""

    start: int
    end: int
    language: str
    closed: bool

    @property
    def is_python(self) -> bool:
        """Called Python, or nothing."""
        return self.language in _PYTHON


def fenced_blocks(text: str) -> list[Block]:
    """Every fenced block of a text, also those that are not closed."""
    blocks: list[Block] = []
    opened: re.Match[str] | None = None
    for fence in FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1][0] == opened[1][0] and len(fence[1]) >= len(opened[1]) and not fence[2]:
            blocks.append(Block(opened.end(), fence.start(), opened[2].lower(), True))
            opened = None
        elif fence[2]:  # the next block begins: this one was never closed
            blocks.append(Block(opened.end(), fence.start(), opened[2].lower(), False))
            opened = fence
    if opened is not None:
        blocks.append(Block(opened.end(), len(text), opened[2].lower(), False))
    return blocks


def defines(code: str, name: str) -> bool:
    """Whether the code defines a function of that name at its top."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.search(rf"^def {name}\s*\(", code, re.MULTILINE) is not None
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def last_code(text: str, name: str) -> str | None:
    """The last block of Python that defines the function; None if there is none."""
    blocks = [text[block.start : block.end].strip("\n") for block in fenced_blocks(text) if block.is_python]
    return next((code + "\n" for code in reversed(blocks) if defines(code, name)), None)
