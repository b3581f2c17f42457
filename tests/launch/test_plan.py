"""Plans: how work is spread."""

from __future__ import annotations

import pytest

from codeio_hpc.launch.plan import share_out
from codeio_hpc.launch.progress import clock


@pytest.mark.parametrize(("shards", "tasks"), [(0, 3), (1, 4), (7, 2), (8, 8), (9, 100)])
def test_every_shard_goes_to_exactly_one_task_and_no_task_is_empty(shards: int, tasks: int) -> None:
    shared = share_out(range(shards), tasks)
    assert sorted(shard for task in shared for shard in task) == list(range(shards))
    assert all(shared) and len(shared) == min(shards, tasks)


def test_seconds_are_shown_as_people_read_them() -> None:
    assert [clock(0), clock(42), clock(723), clock(11110)] == ["0:00", "0:42", "12:03", "3:05:10"]
