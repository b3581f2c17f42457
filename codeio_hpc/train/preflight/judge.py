"""Which nodes are worse than the others. Pure functions.

A node is slowed down, never sped up. So what is normal is the median, and of two middle values the higher one: it holds
as long as half of the ranks are sound.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codeio_hpc.train.preflight.figures import CPU, FIGURES, LinkReport, RankReport, Report
from codeio_hpc.train.preflight.links import STEPS

DEVIATIONS = 3 * 1.4826
"""Median absolute deviations below the median that are no chance. 1.4826 of them are a standard deviation of a normal
distribution, and 3 of those is the cautious choice (Leys et al. 2013, J. Exp. Soc. Psychol. 49)."""
SKEW_LIMIT = 10.0
"""Seconds between two clocks. Notices compare a node's clock with the time limit that the first node read."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with one node."""

    node: str | None
    """None: nobody knows which, or all of them."""
    what: str
    """A figure's name, or ``absent``, ``failed``, ``clock``."""
    text: str
    unusable: bool
    """It cannot take part at all. Otherwise it can, slowly."""


@dataclass(frozen=True)
class Verdict:
    """All that was found out."""

    findings: Sequence[Finding]
    notes: Sequence[str] = ()
    """What is odd but no node's fault."""
    medians: Mapping[str, float] = field(default_factory=dict)

    @property
    def exclude(self) -> list[str]:
        """Nodes to do without."""
        return sorted({finding.node for finding in self.findings if finding.node is not None})

    @property
    def unusable(self) -> list[str]:
        """Those of them that could not take part if there were no others."""
        return sorted({finding.node for finding in self.findings if finding.node is not None and finding.unusable})


def outliers(values: Sequence[float], floor: float) -> list[int]:
    """Which values are too low: below ``floor`` times the median, and further below it than chance explains. Where all
    scatter much, chance explains much; below half of the floor it is not listened to."""
    normal = statistics.median_high(values)
    spread = statistics.median_low([abs(value - normal) for value in values])
    limit = min(floor * normal, max(normal - DEVIATIONS * spread, floor / 2 * normal))
    return [place for place, value in enumerate(values) if value < limit]


def absent(size: int, nodes: Sequence[str], arrived: Mapping[int, str], how: str) -> list[Finding]:
    """Who is missing among ``size`` ranks.

    Args:
        nodes: of the job; none where nobody told.
        arrived: rank -> node.
        how: what they did not do, as in "did not arrive".

    Which rank belongs on which node is up to SLURM (``--distribution``); how many, is not.
    """
    missing = sorted(set(range(size)) - arrived.keys())
    share, there = size // len(nodes) if nodes else 0, Counter(arrived.values())
    if not nodes or size % len(nodes) or not set(there) <= set(nodes):
        return [Finding(None, "absent", f"rank {rank} {how}", True) for rank in missing]
    return [
        Finding(node, "absent", f"{share - there[node]} of its {share} rank{'s' * (share > 1)} {how}", True)
        for node in nodes
        if there[node] < share
    ]


def unfit(reports: Sequence[RankReport]) -> list[Finding]:
    """Nodes where something fails, or that show no GPU while others do. What fails on all nodes is no node's fault."""
    failed = [each for each in reports if each.problem is not None]
    gpus = any(each.device not in ("", CPU) for each in reports)
    findings = [Finding(each.node, "failed", str(each.problem), True) for each in failed]
    findings += [
        Finding(each.node, "failed", f"rank {each.rank} sees no GPU, as others do", True)
        for each in reports
        if gpus and each.device == CPU
    ]
    nodes = {each.node for each in reports}
    if len(nodes) > 1 and {finding.node for finding in findings} == nodes:
        return [Finding(None, "failed", f"on all {len(nodes)} nodes, such as {findings[0].text}", True)]
    return findings


def lost(together: Sequence[LinkReport]) -> list[Finding]:
    """Whose fault it is that ranks lost each other: that of those that are behind the others, if some are."""
    stuck = [each for each in together if each.problem is not None]
    if not stuck:
        return []
    furthest = max(STEPS.index(each.step) for each in together)
    behind = [each for each in stuck if STEPS.index(each.step) < furthest]
    if behind:
        return [
            Finding(each.node, "failed", f"rank {each.rank} at {each.step}: {each.problem}", True) for each in behind
        ]
    first = stuck[0]
    where = f"{len(stuck)} of {len(together)} ranks at {first.step}, such as rank {first.rank} on {first.node}"
    return [Finding(None, "failed", f"{where}: {first.problem}", True)]


def judge(
    reports: Sequence[RankReport], together: Sequence[LinkReport], findings: Sequence[Finding], floor: float
) -> Verdict:
    """Compare what was measured.

    Args:
        reports: of all ranks that reported what they measured alone.
        together: of all ranks, or none where it did not come to that.
        findings: what is known already; such nodes are in the verdict as well.
        floor: share of the median below which a rate is too low.
    """
    found, figures = list(findings), _figures([*reports, *together])
    for name, measured in figures.items():
        found += _slow(name, measured, floor)
    skewed = {each.node: each.skew for each in reports if each.skew > SKEW_LIMIT}
    found += [Finding(node, "clock", f"its clock is {skew:.0f} s off", False) for node, skew in skewed.items()]
    notes = _slow_links(together, {finding.node for finding in found}, floor)
    medians = {name: statistics.median_high(value for _, _, value in measured) for name, measured in figures.items()}
    return Verdict(found, notes, medians)


def _figures(reports: Sequence[Report]) -> dict[str, list[tuple[int, str, float]]]:
    """Rank, node and value of each figure that was measured, by its name."""
    figures: dict[str, list[tuple[int, str, float]]] = {name: [] for name in FIGURES}
    for each in reports:
        for name, value in each.figures.items():
            figures[name].append((each.rank, each.node, value))
    return {name: measured for name, measured in figures.items() if measured}


def _slow(name: str, measured: Sequence[tuple[int, str, float]], floor: float) -> list[Finding]:
    """The slowest rank of each node that has one."""
    figure = FIGURES[name]
    values = [value for _, _, value in measured]
    normal = statistics.median_high(values)
    worst: dict[str, tuple[float, int]] = {}
    for place in outliers(values, floor if figure.floor is None else figure.floor):
        rank, node, value = measured[place]
        worst[node] = min(worst.get(node, (value, rank)), (value, rank))
    return [
        Finding(
            node,
            name,
            f"{name} of rank {rank}: {value:.3g} {figure.unit}, {value / normal:.2f} of the median {normal:.3g}",
            False,
        )
        for node, (value, rank) in worst.items()
    ]


def _slow_links(together: Sequence[LinkReport], known: set[str | None], floor: float) -> list[str]:
    """Pairs of nodes, none of which is slow altogether, that are slow with each other."""
    pairs: dict[tuple[str, str], float] = {}
    for link in together:
        for other, rate in link.links.items():
            pair = (min(link.node, other), max(link.node, other))
            pairs[pair] = min(pairs.get(pair, rate), rate)
    if not pairs:
        return []
    names, rates = list(pairs), list(pairs.values())
    normal = statistics.median_high(rates)
    return [
        f"link {' - '.join(names[place])}: {rates[place]:.3g} GB/s, {rates[place] / normal:.2f} of the median"
        for place in outliers(rates, floor)
        if not known & set(names[place])
    ]
