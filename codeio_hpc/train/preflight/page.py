"""What was found out, for people and for programs. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codeio_hpc.train.preflight.figures import FIGURES, LinkReport, RankReport, Report
from codeio_hpc.train.preflight.judge import Verdict


@dataclass(frozen=True)
class Result:
    """All of a node test."""

    size: int
    """Ranks of the world."""
    reports: Sequence[RankReport]
    together: Sequence[LinkReport]
    verdict: Verdict
    all_reduce: float | None = None
    """Bus bandwidth over all ranks in GB/s; None where it was not measured."""

    def nodes(self) -> dict[str, dict[str, float]]:
        """The lowest figure of each node's ranks, by node."""
        lowest: dict[str, dict[str, float]] = {}
        every: list[Report] = [*self.reports, *self.together]
        for each in every:
            figures = lowest.setdefault(each.node, {})
            for name, value in each.figures.items():
                figures[name] = min(figures.get(name, value), value)
        return lowest


def as_data(result: Result) -> dict[str, Any]:
    """Plain data for programs."""
    verdict = result.verdict
    return {
        "state": "bad nodes" if verdict.findings else "all right",
        "ranks": result.size,
        "exclude": verdict.exclude,
        "unusable": verdict.unusable,
        "findings": [asdict(finding) for finding in verdict.findings],
        "notes": list(verdict.notes),
        "all_reduce": result.all_reduce,
        "units": {name: FIGURES[name].unit for name in verdict.medians},
        "medians": dict(verdict.medians),
        "nodes": result.nodes(),
        "ranks_alone": [asdict(report) for report in result.reports],
        "ranks_together": [asdict(report) for report in result.together],
    }


def as_text(result: Result) -> str:
    """A table of nodes, then what is wrong with which."""
    verdict, nodes = result.verdict, result.nodes()
    names = list(verdict.medians)
    wrong = {(finding.node, finding.what) for finding in verdict.findings}
    devices = ", ".join(sorted({report.device for report in result.reports if report.device})) or "no device"
    lines = [f"node test of {result.size} ranks on {len(nodes)} nodes, {devices}"]
    if names:
        lines += _table(names, nodes, verdict.medians, wrong)
    if result.all_reduce is not None:
        lines.append(f"all-reduce over all ranks: {result.all_reduce:.3g} GB/s")
    lines += [f"{finding.node or 'unknown node'}: {finding.text}" for finding in verdict.findings]
    lines += list(verdict.notes)
    if verdict.exclude:
        lines.append(f"do without: --exclude={','.join(verdict.exclude)}")
    elif not verdict.findings:
        lines.append("all nodes are as good as the others")
    return "\n".join(lines)


def _table(
    names: Sequence[str],
    nodes: Mapping[str, Mapping[str, float]],
    medians: Mapping[str, float],
    wrong: set[tuple[str | None, str]],
) -> list[str]:
    rows = [["", *names], ["", *(FIGURES[name].unit for name in names)]]
    for node, figures in sorted(nodes.items()):
        rows.append([node, *(_cell(figures.get(name), (node, name) in wrong) for name in names)])
    rows.append(["median", *(_cell(medians[name], False) for name in names)])
    widths = [max(len(row[place]) for row in rows) for place in range(len(names) + 1)]
    return ["  " + "  ".join(_aligned(row, widths)).rstrip() for row in rows]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [f"{row[0]:<{widths[0]}}", *(f"{row[place]:>{widths[place]}}" for place in range(1, len(row)))]


def _cell(value: float | None, is_wrong: bool) -> str:
    return "-" if value is None else f"{value:.3g}{'*' if is_wrong else ''}"
