"""What the pulses of all ranks tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from codeio_hpc.train.watchdog import LASTS, WARM_UP, Looks, Pulse, Watchdog


def pulses(*counts: int, forward: tuple[float, ...] | None = None) -> dict[int, Pulse]:
    times = forward or (1.0,) * len(counts)
    return {
        rank: Pulse(count, f"micro-batch {count}", seconds, f"node{rank}")
        for rank, (count, seconds) in enumerate(zip(counts, times, strict=True))
    }


@pytest.fixture
def looks() -> Looks:
    made = Looks(3, 60)
    assert made.hang(pulses(5, 5, 5), 1000) == ""
    return made


def test_nobody_hangs_while_somebody_moves(looks: Looks) -> None:
    assert looks.hang(pulses(5, 6, 5), 1059) == ""
    assert looks.hang(pulses(5, 6, 5), 1118) == ""


def test_the_rank_that_is_behind_is_named(looks: Looks) -> None:
    assert looks.hang(pulses(8, 7, 8), 1010) == ""
    told = looks.hang(pulses(8, 7, 8), 1070)
    assert told == (
        "no progress for 60 s: rank 1 (on node1) has not got beyond: micro-batch 7; "
        "the others wait for it at micro-batch 8"
    )


def test_all_of_them_are_named_where_none_is_ahead(looks: Looks) -> None:
    """As when the switch between the nodes is gone."""
    told = looks.hang(pulses(5, 5, 5), 1061)
    assert told.endswith("rank 0 (on node0), rank 1 (on node1), rank 2 (on node2) have not got beyond: micro-batch 5")


def warnings(looks: Looks, forward: tuple[float, ...], times: int, now: float = 0.0) -> list[str]:
    """All that is said in so many looks."""
    return [line for _ in range(times) for line in looks.warnings(pulses(5, 5, 5, forward=forward), now)]


def test_a_rank_that_stays_slow_is_named_once_in_a_while(looks: Looks) -> None:
    slow = (1.0, 1.1, 1.9)
    assert warnings(looks, slow, LASTS - 1) == []
    assert warnings(looks, slow, 1) == ["rank 2 (on node2) computes 1.7 x as long as the median of the ranks"]
    assert warnings(looks, slow, LASTS, 10.0) == []
    assert len(warnings(looks, slow, 2, 601.0)) == 1


def test_a_rank_that_was_slow_for_a_moment_is_not_named(looks: Looks) -> None:
    for _ in range(3):
        assert warnings(looks, (1.0, 1.1, 26.0), LASTS - 1) == []
        assert warnings(looks, (1.0, 1.1, 1.0), 1) == []


@pytest.mark.parametrize("forward", [(1.0, 1.1, 1.4), (1.0, 1.0, 0.0), (0.001, 0.001, 0.04)])
def test_small_differences_and_ranks_that_have_not_begun_are_no_matter(
    looks: Looks, forward: tuple[float, ...]
) -> None:
    assert warnings(looks, forward, 2 * LASTS) == []


def test_the_first_steps_of_an_attempt_do_not_count() -> None:
    watchdog: Any = Watchdog(SimpleNamespace(size=1), 60)  # type: ignore[arg-type]
    for seconds in (30.0,) * WARM_UP:
        watchdog.forward_took(seconds)
    assert watchdog._mine.forward == 0.0
    watchdog.forward_took(1.0)
    assert watchdog._mine.forward == 1.0
