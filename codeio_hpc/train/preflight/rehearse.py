"""Bad nodes on demand: ``CODEIO_PREFLIGHT_FAULT=node2:gemm=0.3,node5:absent``, to see what a job does about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from codeio_hpc.errors import UserError
from codeio_hpc.train.preflight.figures import FIGURES

VARIABLE = "CODEIO_PREFLIGHT_FAULT"
_FAULT = re.compile(r"(?P<node>[^\s:,=]+):(?:(?P<figure>\w+)=(?P<factor>[0-9.]+)|(?P<word>absent|wrong))")


@dataclass(frozen=True)
class Rehearsal:
    """What is pretended; without a text, nothing."""

    factors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Node -> figure -> what the measured figure is multiplied by."""
    absent: frozenset[str] = frozenset()
    """Nodes whose ranks never arrive."""
    wrong: frozenset[str] = frozenset()
    """Nodes whose matrix products are wrong."""

    def of(self, node: str, figures: Mapping[str, float]) -> dict[str, float]:
        """The figures of a node, as they are to be taken."""
        factors = self.factors.get(node, {})
        return {name: value * factors.get(name, 1.0) for name, value in figures.items()}

    def links_of(self, node: str, links: Mapping[str, float]) -> dict[str, float]:
        """The links of a node: a slow one is slow at both ends."""
        own = self.factors.get(node, {}).get("link", 1.0)
        return {other: rate * min(own, self.factors.get(other, {}).get("link", 1.0)) for other, rate in links.items()}


def read_rehearsal(text: str | None) -> Rehearsal:
    """What :data:`VARIABLE` says.

    Raises:
        UserError: it says something else.
    """
    factors: dict[str, dict[str, float]] = {}
    words: dict[str, set[str]] = {"absent": set(), "wrong": set()}
    for part in (text or "").split(","):
        if not part:
            continue
        fault = _FAULT.fullmatch(part)
        if fault is None or (fault["figure"] and fault["figure"] not in FIGURES):
            raise UserError(
                f"{VARIABLE}={text}",
                f"'{part}' is no fault that can be rehearsed",
                f"write NODE:FIGURE=FACTOR, NODE:absent or NODE:wrong; figures: {', '.join(FIGURES)}",
            )
        if fault["word"]:
            words[fault["word"]].add(fault["node"])
        else:
            factors.setdefault(fault["node"], {})[fault["figure"]] = float(fault["factor"])
    return Rehearsal(factors, frozenset(words["absent"]), frozenset(words["wrong"]))
