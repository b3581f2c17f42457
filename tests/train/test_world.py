"""Who takes part."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.train.world import World, find_world, free_port

MEETING = {"MASTER_ADDR": "node7", "MASTER_PORT": "29500"}


def test_a_slurm_step_of_several_tasks_is_a_world() -> None:
    step = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_NTASKS": "16", "SLURM_LOCALID": "1"}
    assert find_world(step | MEETING) == World(5, 16, 1, "node7", 29500)


def test_rank_variables_win_over_slurms() -> None:
    step = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}
    ours = {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "1"}
    assert find_world(step | ours | MEETING) == World(1, 3, 1, "node7", 29500)


def test_a_batch_script_outside_of_srun_is_one_rank() -> None:
    assert find_world({"SLURM_PROCID": "0", "SLURM_NTASKS": "16", "SLURM_LOCALID": "0"}).size == 1


def test_without_variables_there_is_one_rank_on_a_free_port() -> None:
    alone = find_world({})
    assert (alone.rank, alone.size, alone.address) == (0, 1, "127.0.0.1")
    assert alone.port > 1023


@pytest.mark.parametrize("wrong", [{"RANK": "one"}, {"RANK": "2"}, {"MASTER_PORT": ""}])
def test_incomplete_variables_are_named(wrong: dict[str, str]) -> None:
    with pytest.raises(UserError):
        find_world({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"} | MEETING | wrong)
    with pytest.raises(UserError, match="WORLD_SIZE"):
        find_world({"RANK": "1"})


def test_ranks_wait_for_hours_also_in_groups_that_libraries_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own limits end a long export or conversion, and hanging ranks before the watchdog names them."""
    import torch

    from codeio_hpc.train.meeting import WAITING, meet

    monkeypatch.setattr(World, "export", lambda world: None)
    defaults: Any = torch.distributed.distributed_c10d
    for name in ("default_pg_timeout", "default_pg_nccl_timeout"):
        monkeypatch.setattr(defaults, name, timedelta(minutes=10))
    ranks = meet(World(0, 1, 0, "127.0.0.1", free_port()))
    try:
        groups: list[Any] = [torch.distributed.group.WORLD, torch.distributed.new_group()]
        limits = {group._get_backend(torch.device("cpu")).options._timeout for group in groups}
    finally:
        ranks.leave()
    assert limits == {WAITING} == {defaults.default_pg_nccl_timeout}
