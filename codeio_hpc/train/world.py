"""Who takes part in a training: ranks and where they meet."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from codeio_hpc.errors import UserError


@dataclass(frozen=True)
class World:
    """This process among all ranks."""

    rank: int
    size: int
    local_rank: int
    address: str
    """Host where rank 0 listens."""
    port: int

    def export(self) -> None:
        """Set the variables that torch and DeepSpeed read."""
        os.environ.update(
            RANK=str(self.rank),
            WORLD_SIZE=str(self.size),
            LOCAL_RANK=str(self.local_rank),
            MASTER_ADDR=self.address,
            MASTER_PORT=str(self.port),
        )


def find_world(environment: Mapping[str, str]) -> World:
    """The world that the variables tell of: RANK and WORLD_SIZE, else a SLURM step of several tasks, else one rank.

    Raises:
        UserError: the variables are incomplete or contradict each other.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return _read(environment, "RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "SLURM_STEP_ID" in environment and environment.get("SLURM_NTASKS", "1") != "1":
        return _read(environment, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    return World(0, 1, 0, "127.0.0.1", free_port())


def _read(environment: Mapping[str, str], rank: str, size: str, local_rank: str) -> World:
    names = (rank, size, local_rank, "MASTER_PORT")
    try:
        number, count, local, port = (int(environment[name]) for name in names)
        world = World(number, count, local, environment["MASTER_ADDR"], port)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the environment's {error} is missing or not a number",
            f"several ranks meet by {', '.join(names)} and MASTER_ADDR",
            "start the ranks with slurm/stage1.sh, or use --ranks N on one machine",
        ) from None
    if not 0 <= world.rank < world.size:
        raise UserError(f"{rank}={world.rank} with {size}={world.size}", "no such rank", "correct the environment")
    return world


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses right now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
