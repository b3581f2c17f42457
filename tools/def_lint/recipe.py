"""What a recipe is made of: stages, their headers and sections, as Apptainer reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

_HEADERS_TEXT = """
    bootstrap from includecmd mirrorurl updateurl osversion include library registry namespace stage product user
    regcode productpgp registerurl modules fingerprints confurl setopt
"""
_SECTIONS_TEXT = "help setup files labels environment pre post runscript test startscript arguments"
_APP_SECTIONS_TEXT = "appinstall applabels appfiles appenv apptest apphelp apprun appstart"
_SCRIPTS_TEXT = "setup environment pre post runscript test startscript appinstall appenv apptest apprun appstart"
HEADERS, SECTIONS = set(_HEADERS_TEXT.split()), set(_SECTIONS_TEXT.split())
APP_SECTIONS, SCRIPTS = set(_APP_SECTIONS_TEXT.split()), set(_SCRIPTS_TEXT.split())

REFERENCE = re.compile(r"{{\s*(\w+)\s*}}")


class Problem(NamedTuple):
    """Sorts by line."""

    line: int
    text: str


@dataclass
class Section:
    """``%name words``, and the lines below it."""

    line: int
    name: str
    words: list[str]
    body: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Those that are neither empty nor a comment, with their numbers."""
        for number, text in enumerate(self.body, self.line + 1):
            if text.strip() and not text.strip().startswith("#"):
                yield number, text.strip()


@dataclass
class Stage:
    """One image of a recipe; the last is the one that is kept."""

    line: int
    headers: dict[str, tuple[int, str]] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def named(self, name: str) -> list[Section]:
        return [section for section in self.sections if section.name == name]

    def defaults(self) -> dict[str, str]:
        """Of the build arguments."""
        pairs = [text.partition("=") for section in self.named("arguments") for _, text in section.lines()]
        return {name.strip(): value.strip() for name, equals, value in pairs if equals}

    def filled(self, text: str) -> str:
        """With the defaults of build arguments in their places."""
        defaults = self.defaults()
        return REFERENCE.sub(lambda match: defaults.get(match[1], match[0]), text)


def read_stages(lines: Sequence[str], problems: list[Problem]) -> Iterator[Stage]:
    """Cut where Apptainer does: at every line that begins with ``Bootstrap:``, whatever it stands in."""
    starts = [number for number, text in enumerate(lines) if re.match(r"bootstrap:", text, re.IGNORECASE)]
    if any(text.strip() and not text.strip().startswith("#") for text in lines[: starts[0] if starts else None]):
        starts.insert(0, 0)
    for start, end in pairwise([*starts, len(lines)]):
        yield read_stage(lines[start:end], start + 1, problems)


def read_stage(lines: Sequence[str], first: int, problems: list[Problem]) -> Stage:
    stage = Stage(first, text=list(lines))
    section: Section | None = None
    continued = False
    for number, text in enumerate(lines, first):
        if text.lstrip().startswith("%"):
            section = _heading(number, text, problems)
            stage.sections.append(section)
        elif section is not None:
            section.body.append(text)
        elif continued or not text.strip() or text.strip().startswith("#"):
            continued = continued and text.rstrip().endswith("\\")
        else:
            continued = _header(number, text, stage, problems)
    return stage


def _heading(number: int, text: str, problems: list[Problem]) -> Section:
    name, *words = text.lstrip().lstrip("%").split(" ") if not text[1:2].isspace() else ["", ""]
    section = Section(number, name.strip().lower(), [word for word in words if word])
    if text.startswith((" ", "\t")):
        why = "Apptainer takes every line whose first character is % for a section, indented ones too"
        problems.append(Problem(number, f"{text.strip()!r}: {why}; write it otherwise"))
    elif section.name not in SECTIONS | APP_SECTIONS:
        known = ", ".join(sorted(SECTIONS))
        problems.append(
            Problem(number, f"%{section.name}: there is no such section; known: {known}, and those of apps")
        )
    elif section.name in APP_SECTIONS and not section.words:
        problems.append(Problem(number, f"%{section.name}: of which app? write %{section.name} NAME"))
    return section


def _header(number: int, text: str, stage: Stage, problems: list[Problem]) -> bool:
    """Take in one line; whether it goes on in the next."""
    name, colon, value = text.partition("#")[0].partition(":")
    name = name.strip()
    if not colon:
        problems.append(Problem(number, f"{text.strip()!r}: a header is written Name: value"))
        return False
    if name.lower() not in HEADERS and not re.fullmatch(r"otherurl\d+", name.lower()):
        known = ", ".join(sorted(HEADERS))
        problems.append(Problem(number, f"{name}: there is no such header; known: {known}"))
    elif name.lower() in stage.headers:
        problems.append(Problem(number, f"{name}: stands twice in this stage; the first is lost"))
    stage.headers[name.lower()] = (number, value.strip())
    return value.rstrip().endswith("\\")
