"""One line of a check-up, and tables of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Verdict = Literal["pass", "warn", "fail", "skipped"]
VERDICTS: tuple[Verdict, ...] = ("pass", "warn", "fail", "skipped")

_COLOURS = {"pass": "32", "warn": "33", "fail": "31;1", "skipped": "2"}


@dataclass(frozen=True)
class Finding:
    """One fact, what it means for us, and what to do about it."""

    name: str
    value: str
    verdict: Verdict = "pass"
    fix: str = ""
    """What to change; empty where nothing is to be done."""
    where: str = ""
    """``login``, or the compute node that it was looked at on."""


def located(findings: Iterable[Finding], where: str) -> list[Finding]:
    """The findings, all made at ``where``."""
    return [replace(finding, where=where) for finding in findings]


def as_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """Plain data for programs: every finding, and how many of each verdict."""
    return {"findings": [asdict(finding) for finding in findings], "counts": _counts(findings)}


def from_data(data: dict[str, Any]) -> list[Finding]:
    """What :func:`as_data` was made of."""
    return [Finding(**finding) for finding in data["findings"]]


def as_text(findings: Sequence[Finding]) -> str:
    """An aligned table, each fix below its line; in colours where standard output is a terminal."""
    places = max((len(finding.where) for finding in findings), default=0)
    names = max((len(finding.name) for finding in findings), default=0)
    margin = 9 + (places + 2 if places else 0)
    lines = []
    for finding in findings:
        place = f"{finding.where:<{places}}  " if places else ""
        lines.append(f"{_coloured(finding.verdict)}{place}{finding.name:<{names}}  {finding.value}".rstrip())
        if finding.fix:
            lines.append(f"{'':<{margin}}{'':<{names}}  -> {finding.fix}")
    counts = _counts(findings)
    return "\n".join([*lines, ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)])


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counted = Counter(finding.verdict for finding in findings)
    return {verdict: counted[verdict] for verdict in VERDICTS}


def _coloured(verdict: Verdict) -> str:
    word = f"{verdict:<9}"
    return f"\x1b[{_COLOURS[verdict]}m{word}\x1b[0m" if sys.stdout.isatty() else word


def any_failed(findings: Iterable[Finding]) -> bool:
    """Whether anything cannot work as it is."""
    return any(finding.verdict == "fail" for finding in findings)
