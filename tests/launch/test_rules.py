"""The rules that a build and a calculated one share, and that both call them."""

from __future__ import annotations

import pytest

from codeio_hpc.launch import build, rules, submission, worker
from codeio_hpc.launch.planning import simulate


def test_a_shard_is_begun_where_one_like_the_longest_and_a_good_end_fit() -> None:
    assert rules.fits(20.0, 0.0) and not rules.fits(19.9, 0.0)
    assert rules.fits(80.0, 60.0) and not rules.fits(79.0, 60.0)


@pytest.mark.parametrize(
    ("missing", "now", "rounds"),
    [([], 9, 0), ([9, 9], 9, 0), ([9, 9, 9], 9, 3), ([9, 9, 9], 8, 0), ([9, 8, 8], 8, 0), ([9, 8, 8, 8], 8, 3)],
)
def test_rounds_are_in_vain_when_one_more_than_a_shard_has_attempts_changed_nothing(
    missing: list[int], now: int, rounds: int
) -> None:
    assert rules.rounds_in_vain(missing, now, attempts=2) == rounds


def test_a_shard_is_hopeless_once_its_attempts_are_used_up() -> None:
    assert [rules.is_hopeless(failures, 3) for failures in (2, 3)] == [False, True]


def test_a_build_and_a_calculated_one_go_by_the_same_rules() -> None:
    assert simulate.fits is worker.fits is rules.fits
    assert simulate.rounds_in_vain is submission.rounds_in_vain is rules.rounds_in_vain
    assert simulate.is_hopeless is build.is_hopeless is rules.is_hopeless
