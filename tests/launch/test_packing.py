"""How shards become tasks, and tasks arrays."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from codeio_hpc.launch.attempts import Attempt, StageTotals, read_attempts
from codeio_hpc.launch.packing import Cost, cost_of_step, pack, split


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_every_shard_is_in_exactly_one_task(count: int) -> None:
    costs = random.Random(count)
    seconds = {shard: costs.uniform(1, 100) for shard in range(0, 3 * count, 3)}
    tasks = pack(list(seconds), seconds.__getitem__, lasts=300, least=4)
    assert sorted(shard for task in tasks for shard in task) == sorted(seconds)
    assert all(task == sorted(task) for task in tasks)


def test_tasks_last_as_long_as_wanted() -> None:
    tasks = pack(range(1000), lambda shard: 10.0 + shard % 7, lasts=600, least=4)
    lengths = [sum(10.0 + shard % 7 for shard in task) for task in tasks]
    assert max(lengths) < 660 and min(lengths) > 540


def test_a_small_step_is_spread_over_the_tasks_wanted_and_no_more_than_it_has_shards() -> None:
    assert len(pack(range(100), lambda shard: 0.1, lasts=1800, least=4)) == 4
    assert pack(range(3), lambda shard: 0.1, lasts=1800, least=4) == [[0], [1], [2]]


def test_a_shard_that_lasts_longer_than_a_task_should_has_one_of_its_own() -> None:
    tasks = pack(range(10), lambda shard: 5000.0 if shard == 7 else 100.0, lasts=1800, least=1)
    assert [7] in tasks


def test_costs_are_measured_by_input_row_over_all_stages_of_the_step() -> None:
    attempt = Attempt("step1-round0", 0, 0, 1, "c1", 1, None, None, "")
    attempt.stages = {
        "pose": StageTotals(shards=2, seconds=3.0, rows_in=30, rows_out=60),
        "answer": StageTotals(shards=2, seconds=6.0, rows_in=60, rows_out=60),
    }
    other = Attempt("step0-round0", 0, 0, 0, "c1", 1, None, None, "", stages={"collect": StageTotals(9, seconds=99)})
    cost = cost_of_step([attempt, other], step=1, first="pose", assumed=10)
    assert (cost.of(100), cost.of(None), cost.measured_on) == (pytest.approx(30), 4.5, 2)
    assert cost_of_step([attempt], step=7, first="pose", assumed=10) == Cost(0.0, 10, 0)
    assert Cost(0.0, 10, 0).of(5) == 10


def test_the_first_stage_is_the_steps_first_whatever_the_order_in_a_record(tmp_path: Path) -> None:
    """Records are sorted by name, and an attempt that went on in the middle of a shard has none of the first stage."""
    attempt = Attempt("step1-round0", 0, 0, 1, "c1", 1, None, None, "")
    attempt.stages = {
        "split": StageTotals(shards=2, seconds=2.0, rows_in=20),
        "answer": StageTotals(shards=2, seconds=8.0, rows_in=400),
    }
    attempt.save(tmp_path)
    resumed = Attempt("step1-round1", 0, 0, 1, "c1", 1, None, None, "")
    resumed.stages = {"answer": StageTotals(shards=1, seconds=2.0, rows_in=100)}
    cost = cost_of_step([*read_attempts(tmp_path), resumed], step=1, first="split", assumed=10)
    assert (cost.of(20), cost.measured_on) == (pytest.approx(12), 2)


def test_no_array_is_larger_than_the_site_allows_and_together_they_keep_to_the_throttle() -> None:
    parts = split(60, max_array_size=11, at_once=8)
    assert [(part.first, part.tasks) for part in parts] == [(0, 11), (11, 11), (22, 11), (33, 11), (44, 11), (55, 5)]
    assert sum(part.at_once for part in parts) == 8 and all(part.after is None for part in parts)


def test_more_arrays_than_may_run_at_once_wait_in_lanes() -> None:
    parts = split(60, max_array_size=11, at_once=4)
    assert [part.after for part in parts] == [None, None, None, None, 0, 1]
    assert {part.at_once for part in parts} == {1}


def test_one_array_is_enough_for_few_tasks() -> None:
    [part] = split(5, max_array_size=1001, at_once=64)
    assert (part.first, part.tasks, part.at_once, part.after) == (0, 5, 64, None)
