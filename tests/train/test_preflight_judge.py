"""Which nodes are bad: what the figures say."""

from __future__ import annotations

import random

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.train.preflight.figures import LinkReport, RankReport
from codeio_hpc.train.preflight.judge import absent, judge, lost, outliers, unfit
from codeio_hpc.train.preflight.links import rounds
from codeio_hpc.train.preflight.page import Result, as_data, as_text
from codeio_hpc.train.preflight.rehearse import read_rehearsal


def reports(rates: dict[str, list[float]], figure: str = "gemm") -> list[RankReport]:
    """One report a rank, node by node."""
    pairs = [(node, rate) for node, rates_of in rates.items() for rate in rates_of]
    return [RankReport(rank, node, {figure: rate}, device="A100") for rank, (node, rate) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ([1, 1, 1, 0.7], [3]),
        ([1, 1, 1, 0.85], []),  # slower, but not below the floor
        ([1, 0.5], [1]),  # of two, the slower one
        ([1, 1, 0.3, 0.3], [2, 3]),  # half of all
        ([0.5], []),
        ([1, 0.95, 0.9, 0.78, 1.05], []),  # below the floor of the best, not of the median
        ([1, 0.7, 0.5, 0.42], []),  # all of them scatter
        ([1, 0.7, 0.5, 0.2], [3]),  # but so much is no scatter
        ([0, 0, 0], []),
    ],
)
def test_an_outlier_is_below_the_floor_and_further_than_the_others_scatter(values: list[float], bad: list[int]) -> None:
    assert outliers(values, 0.8) == bad


def test_sound_nodes_of_a_large_job_are_not_accused_by_chance() -> None:
    """Rates that scatter by 3 %, as those of GPUs of one kind do; then one of them throttles."""
    chance = random.Random(0)
    for _ in range(200):
        values = [chance.gauss(280, 8) for _ in range(256)]
        assert outliers(values, 0.8) == []
        values[17] *= 0.7
        assert outliers(values, 0.8) == [17]


def test_a_node_is_as_slow_as_its_slowest_rank_which_is_named_with_the_median() -> None:
    verdict = judge(reports({"n1": [280, 279], "n2": [281, 140], "n3": [278, 282]}), [], [], 0.8)
    [finding] = verdict.findings
    assert (finding.node, finding.what, finding.unusable) == ("n2", "gemm", False)
    assert finding.text == "gemm of rank 3: 140 TFLOP/s, 0.50 of the median 280"
    assert (verdict.exclude, verdict.unusable) == (["n2"], [])


def test_one_bad_gpu_of_a_single_node_is_found() -> None:
    assert judge(reports({"n1": [280] * 7 + [150]}), [], [], 0.8).exclude == ["n1"]


def test_a_disk_may_be_slower_and_memory_may_be_fuller_than_a_rate() -> None:
    for figure, share in (("write", 0.4), ("free_memory", 0.97)):
        assert not judge(reports({"n1": [80], "n2": [80], "n3": [80 * share]}, figure), [], [], 0.8).findings
    for figure, share in (("write", 0.1), ("free_memory", 0.9)):
        assert judge(reports({"n1": [80], "n2": [80], "n3": [80 * share]}, figure), [], [], 0.8).exclude == ["n3"]


def test_what_fails_on_one_node_is_its_fault_and_what_fails_on_all_is_nobodys() -> None:
    sound, broken = RankReport(0, "n1", device="A100"), RankReport(1, "n2", problem="gemm of rank 1: Xid 79")
    [finding] = unfit([sound, broken])
    assert (finding.node, finding.unusable, finding.text) == ("n2", True, "gemm of rank 1: Xid 79")
    [finding] = unfit([RankReport(0, "n1", problem="write: full"), RankReport(1, "n2", problem="write: full")])
    assert finding.node is None and finding.text == "on all 2 nodes, such as write: full"
    assert unfit([RankReport(0, "n1", problem="write: full")])[0].node == "n1"


def test_a_node_without_the_gpu_that_the_others_have_is_unfit_not_slow() -> None:
    [finding] = unfit([RankReport(0, "n1", device="A100"), RankReport(1, "n2", device="CPU")])
    assert (finding.node, finding.text) == ("n2", "rank 1 sees no GPU, as others do")
    assert not unfit([RankReport(0, "n1", device="CPU"), RankReport(1, "n2", device="CPU")])


def test_a_clock_that_is_off_is_a_finding() -> None:
    clocks = [RankReport(0, "n1"), RankReport(1, "n2", skew=42.0), RankReport(2, "n3", skew=0.2)]
    assert [(each.node, each.text) for each in judge(clocks, [], [], 0.8).findings] == [("n2", "its clock is 42 s off")]


def links(pairs: dict[tuple[str, str], float]) -> list[LinkReport]:
    """What one rank a node reports of its pairs."""
    nodes = sorted({node for pair in pairs for node in pair})
    found = []
    for rank, node in enumerate(nodes):
        own = {(set(pair) - {node}).pop(): rate for pair, rate in pairs.items() if node in pair}
        found.append(LinkReport(rank, node, {"link": sorted(own.values())[len(own) // 2]}, None, "done", own))
    return found


def test_a_slow_card_is_its_nodes_fault_a_slow_cable_between_two_is_noted() -> None:
    names = ["n1", "n2", "n3", "n4"]
    pairs = {(one, other): 20.0 for one in names for other in names if one < other}
    card = judge([], links(pairs | {pair: 5.0 for pair in pairs if "n3" in pair}), [], 0.8)
    assert (card.exclude, list(card.notes)) == (["n3"], [])
    cable = judge([], links(pairs | {("n2", "n4"): 5.0}), [], 0.8)
    assert (cable.exclude, list(cable.notes)) == ([], ["link n2 - n4: 5 GB/s, 0.25 of the median"])


def test_who_is_behind_the_others_is_blamed_for_their_waiting() -> None:
    stuck = [LinkReport(rank, f"n{rank}", problem="no end", step="all-reduce") for rank in range(3)]
    behind = LinkReport(3, "n3", problem="no end", step="join")
    assert [finding.node for finding in lost([*stuck, behind])] == ["n3"]
    [finding] = lost(stuck)
    assert finding.node is None and finding.text == "3 of 3 ranks at all-reduce, such as rank 0 on n0: no end"
    assert lost([LinkReport(0, "n0", step="done")]) == []


def test_missing_ranks_are_named_by_their_node_wherever_slurm_put_them() -> None:
    nodes = ["n1", "n2", "n3"]
    cyclic = {0: "n1", 1: "n2", 3: "n1", 4: "n2"}  # --distribution=cyclic: ranks 2 and 5 belong on n3
    [finding] = absent(6, nodes, cyclic, "did not arrive")
    assert (finding.node, finding.text) == ("n3", "2 of its 2 ranks did not arrive")
    [finding] = absent(6, nodes, {**cyclic, 2: "n3"}, "did not arrive")
    assert (finding.node, finding.text) == ("n3", "1 of its 2 ranks did not arrive")
    assert absent(3, nodes, dict(enumerate(nodes)), "did not arrive") == []
    # nobody told the nodes, or the names are others
    for unknown in ([], ["a", "b"]):
        assert [(each.node, each.text) for each in absent(2, unknown, {0: "n1"}, "hid")] == [(None, "rank 1 hid")]


@pytest.mark.parametrize("count", range(1, 12))
def test_every_two_nodes_meet_once_and_nobody_twice_in_a_round(count: int) -> None:
    nodes = [f"n{number}" for number in range(count)]
    every = rounds(nodes, most=99)
    met = [frozenset(pair) for pairs in every for pair in pairs]
    assert len(met) == len(set(met)) == count * (count - 1) // 2
    for pairs in every:
        busy = [node for pair in pairs for node in pair]
        assert len(busy) == len(set(busy)) >= count - 1
    few = rounds(nodes, most=3)
    assert len(few) == min(3, len(every)) and all(pairs in every for pairs in few)


def test_faults_are_rehearsed_as_written() -> None:
    faults = read_rehearsal("n2:gemm=0.3,n2:link=0.5,n3:absent,n4:wrong")
    assert faults.of("n2", {"gemm": 100.0, "copy": 5.0}) == {"gemm": 30.0, "copy": 5.0}
    assert faults.links_of("n1", {"n2": 8.0, "n3": 8.0}) == {"n2": 4.0, "n3": 8.0}, "slow at both ends"
    assert (faults.absent, faults.wrong) == ({"n3"}, {"n4"})
    assert read_rehearsal(None).of("n2", {"gemm": 1.0}) == {"gemm": 1.0}
    for wrong in ("n2", "n2:gem=0.3", "n2:gemm", "n2:gemm=x", "gemm=0.3"):
        with pytest.raises(UserError, match="NODE:FIGURE=FACTOR"):
            read_rehearsal(wrong)


def test_the_page_shows_nodes_medians_and_what_to_exclude() -> None:
    measured = reports({"n1": [280, 279], "n2": [281, 140]})
    result = Result(4, measured, [], judge(measured, [], [], 0.8), all_reduce=90.0)
    assert as_text(result).splitlines() == [
        "node test of 4 ranks on 2 nodes, A100",
        "             gemm",
        "          TFLOP/s",
        "  n1          279",
        "  n2         140*",
        "  median      280",
        "all-reduce over all ranks: 90 GB/s",
        "n2: gemm of rank 3: 140 TFLOP/s, 0.50 of the median 280",
        "do without: --exclude=n2",
    ]
    data = as_data(result)
    assert (data["state"], data["exclude"], data["nodes"]["n2"]) == ("bad nodes", ["n2"], {"gemm": 140})
    sound = Result(4, measured[:2], [], judge(measured[:2], [], [], 0.8))
    assert as_text(sound).endswith("all nodes are as good as the others")
