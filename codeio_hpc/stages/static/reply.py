"""A language model's reply to the transform prompt, taken apart: four parts under four headings.

Models slip in the form more often than in the matter. What can be repaired without guessing is, and is counted; the
rest is refused with a reason, and the caller keeps the raw reply.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from codeio_hpc.stages.static.module import Refused
from codeio_hpc.stages.static.results import ENTRY
from codeio_hpc.stages.static.unified import GENERATOR, UnifiedFunction
from codeio_hpc.teachers.blocks import FENCE, defines, fenced_blocks

HEADINGS = {
    "code": "Main Function",
    "io_description": "Input Output Description",
    "generator": "Input Generator",
    "question": "Problem Statement",
}
"""Part of the reply, and the heading that the prompt asks for."""
_SPELLINGS = {
    "code": r"main\s+function|main\s+solution|reference\s+code",
    "io_description": r"input\s*(?:/|-|and|&|,)?\s*output\s+(?:description|requirements?|spec(?:ification)?)"
    r"|i\s*/\s*o\s+(?:description|spec(?:ification)?)",
    "generator": r"input\s+generator(?:\s+function)?|generator",
    "question": r"problem\s+(?:statement|description)|question",
}
_HEADING = r"^[ \t]*(?:#{1,6}[ \t]*|\*\*|(?=\d))[ \t]*(?:\d+[.):][ \t]*)?(?:\*\*)?[ \t]*"
_HEADING_END = r"[ \t]*:?[ \t]*(?:\*\*)?[ \t]*:?[ \t]*#*[ \t]*$"
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class ParsedReply:
    """The parts, and the names of what was repaired on the way, in alphabetical order."""

    function: UnifiedFunction
    repairs: tuple[str, ...]


def parse_reply(text: str) -> ParsedReply:
    """The four parts of a reply.

    Repairs: ``thoughts`` (taken out), ``heading`` (another spelling or style), ``order``, ``repeated_heading`` (the
    last one counts), ``unclosed_fence``, ``no_fence``, ``several_blocks`` (the last one that defines the function).

    Raises:
        Refused: missing_heading, missing_part (nothing under a heading), no_code (no block of Python where one
            belongs), no_entry_point or no_generator (the block does not define the name that was asked for).
    """
    repairs: set[str] = set()
    shown = _THOUGHT.sub("", text.replace("\r\n", "\n"))
    if shown.strip() != text.replace("\r\n", "\n").strip():
        repairs.add("thoughts")
    sections = _sections(shown, repairs)
    for part, heading in HEADINGS.items():
        if part not in sections:
            raise Refused("missing_heading", heading)
        if not sections[part].strip():
            raise Refused("missing_part", heading)
    function = UnifiedFunction(
        code=_code(sections["code"], ENTRY, "no_entry_point", repairs),
        io_description=_prose(sections["io_description"]),
        generator=_code(sections["generator"], GENERATOR, "no_generator", repairs),
        question=_prose(sections["question"]),
    )
    return ParsedReply(function, tuple(sorted(repairs)))


def _sections(text: str, repairs: set[str]) -> dict[str, str]:
    """What stands under each heading, up to the next one. Headings inside blocks of code are none."""
    inside = _inside_fences(text)
    found: list[tuple[int, int, str]] = []
    for part, spelling in _SPELLINGS.items():
        for match in re.finditer(f"{_HEADING}(?:{spelling}){_HEADING_END}", text, re.MULTILINE | re.IGNORECASE):
            if not any(start <= match.start() < end for start, end in inside):
                found.append((match.start(), match.end(), part))
                if match[0].strip() != f"## {HEADINGS[part]}":
                    repairs.add("heading")
    found.sort()
    sections: dict[str, str] = {}
    order: list[str] = []
    for number, (_, start, part) in enumerate(found):
        end = found[number + 1][0] if number + 1 < len(found) else len(text)
        if part in sections:
            repairs.add("repeated_heading")
            order.remove(part)
        sections[part] = text[start:end]
        order.append(part)
    if order != [part for part in HEADINGS if part in order]:
        repairs.add("order")
    return sections


def _inside_fences(text: str) -> list[tuple[int, int]]:
    """Spans of blocks that are closed; one that is not hides no heading."""
    return [(block.start, block.end) for block in fenced_blocks(text) if block.closed]


def _code(section: str, name: str, missing: str, repairs: set[str]) -> str:
    blocks = [block for block in fenced_blocks(section) if block.is_python]
    candidates = [(section[block.start : block.end].strip("\n"), block.closed) for block in blocks]
    if not candidates:
        if not defines(section, name):
            raise Refused("no_code", f"no block of Python defines {name}")
        repairs.add("no_fence")
        return section.strip("\n") + "\n"
    chosen = next(((code, closed) for code, closed in reversed(candidates) if defines(code, name)), None)
    if chosen is None:
        raise Refused(missing, f"no block of {len(candidates)} defines {name}")
    if len(candidates) > 1:
        repairs.add("several_blocks")
    if not chosen[1]:
        repairs.add("unclosed_fence")
    return chosen[0] + "\n"


def _prose(section: str) -> str:
    """Text without the fences that some models put around it."""
    lines = [line for line in section.strip("\n").split("\n") if not FENCE.fullmatch(line)]
    return "\n".join(lines).strip()


def require_named(function: UnifiedFunction, names: list[str]) -> None:
    """Refuse a question that does not name all of the function's variables: as code, or in plain words.

    Raises:
        Refused: question_without.
    """
    said = function.question.lower()
    for name in names:
        plain = name.lower().replace("_", " ").strip()
        if not re.search(rf"(?<!\w)(?:{re.escape(name.lower())}|{re.escape(plain)})(?!\w)", said):
            raise Refused("question_without", name)
