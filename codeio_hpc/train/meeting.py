"""How the ranks meet, and what they tell each other besides gradients. Loads torch."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch

from codeio_hpc.errors import UserError
from codeio_hpc.train.world import World

Result = TypeVar("Result")

ARRIVAL = timedelta(minutes=20)
"""Until all ranks must be there: on busy file systems the first import of torch takes minutes."""
PREPARATION = timedelta(hours=12)
"""Until rank 0 has prepared what the others read."""
WAITING = timedelta(hours=4)
"""Until a rank must be where others wait for it: rank 0 alone writes a finished model, and brings a checkpoint into the
form of another number of ranks. Torch's own limits (NCCL: 10 minutes, and it aborts the process; gloo: 30) would end
that, and, sooner than the watchdog, who hangs without a name."""
PRECEDENCE = timedelta(seconds=3)
"""Until rank 0 must have met an error that another rank has met, or it is that rank's alone."""
_FAILED = "codeio/failed"
_ALL, _PREPARED = "codeio/all-are-here", "codeio/prepared"


class RanksLostError(Exception):
    """Other ranks did not come, or are gone. Nothing is wrong with this training: start it again."""


class Ranks:
    """All ranks of this training, as one of them sees them. Every method is called by all of them, in the same order.

    What is said here goes by gloo from host to host, also where gradients go from GPU to GPU: nothing waits for a
    device, and ranks can agree after every micro-batch.
    """

    def __init__(self, world: World, device: torch.device, store: Any) -> None:
        self.rank, self.size = world.rank, world.size
        self.world, self.device, self.store = world, device, store
        self._group = torch.distributed.new_group(backend="gloo") if device.type == "cuda" else None

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, by rank; also a barrier."""
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value, group=self._group)
        return values

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums over all ranks."""
        numbers = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(numbers, group=self._group)
        return list(numbers.tolist())

    def first_does(self, work: Callable[[], None]) -> None:
        """Rank 0 calls ``work()``, and the others wait for it.

        Raises:
            UserError: ``work()`` does; in all ranks.
        """
        if self.rank == 0:
            try:
                work()
            except UserError as error:
                self.store.set(_PREPARED, str(error))
                raise
            self.store.set(_PREPARED, "")
            return
        self.store.wait([_PREPARED], PREPARATION)
        if problem := self.store.get(_PREPARED).decode():
            raise UserError.of_text(problem)

    def together(self, work: Callable[[], Result]) -> Result:
        """Every rank calls its ``work()``, and waits for the others.

        Raises:
            UserError: ``work()`` of one does; in all ranks.
        """
        result, problem = None, ""
        try:
            result = work()
        except UserError as error:
            problem = str(error)
        if first := next(filter(None, self.gather(problem)), None):
            raise UserError.of_text(first)
        return cast(Result, result)

    def first_knows(self) -> bool:
        """Whether rank 0 has met the error, too, that this rank has met: it says it then for all.

        Called by those that met one. Rank 0, which keeps the store, waits a moment for the others, which may have met
        it later, or never: an error of its own alone ends it all the same.
        """
        if self.rank == 0:
            self.store.set(_FAILED, "")
            with suppress(torch.distributed.DistError):
                self.store.wait([f"codeio/failed/{rank}" for rank in range(1, self.size)], 2 * PRECEDENCE)
            return True
        try:
            self.store.wait([_FAILED], PRECEDENCE)
        except torch.distributed.DistNetworkError:  # it is gone: not without having said why
            return True
        except torch.distributed.DistError:
            return False
        self.store.set(f"codeio/failed/{self.rank}", "")
        return True

    def leave(self) -> None:
        """Leave the group."""
        torch.distributed.destroy_process_group()


def meet(world: World) -> Ranks:
    """Meet the other ranks.

    Raises:
        RanksLostError: some did not come; it names them.
    """
    world.export()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", world.local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    store = open_store(world, ARRIVAL)
    _call_the_roll(store, world)
    # as the default: DeepSpeed makes groups of its own, and gives them no limit
    defaults: Any = torch.distributed.distributed_c10d
    defaults.default_pg_timeout = defaults.default_pg_nccl_timeout = WAITING
    torch.distributed.init_process_group(
        "nccl" if cuda else "gloo", store=store, rank=world.rank, world_size=world.size
    )
    return Ranks(world, device, store)


def tell_all(world: World, error: UserError) -> None:
    """Rank 0, which cannot begin, meets the others only to tell them: who hears nothing would wait for it.

    Raises:
        UserError: this one; in the others from their next :meth:`Ranks.first_does`.
    """

    def refuse() -> None:
        raise error

    ranks = meet(world)
    try:
        ranks.first_does(refuse)
    finally:
        ranks.first_knows()


def open_store(world: World, patience: timedelta, listen: bool = True) -> Any:
    """The table of names and values that rank 0 keeps for all.

    Raises:
        RanksLostError: rank 0 does not answer.
    """
    first = world.rank == 0 and listen
    try:
        return torch.distributed.TCPStore(  # type: ignore[attr-defined]
            world.address, world.port, world.size, first, timeout=patience, wait_for_workers=False
        )
    except torch.distributed.DistNetworkError as error:
        what = str(error).strip().splitlines()[0]
        raise RanksLostError(f"rank 0 cannot be reached at {world.address}:{world.port} ({what})") from None


def _call_the_roll(store: Any, world: World, patience: timedelta = ARRIVAL) -> None:
    store.set(f"codeio/here/{world.rank}", socket.gethostname())
    if world.rank:
        try:
            store.wait([_ALL], patience)
        except torch.distributed.DistError:
            raise RanksLostError("the ranks did not all come; rank 0 says which") from None
        return
    end = time.monotonic() + patience.total_seconds()
    while missing := [rank for rank in range(world.size) if not store.check([f"codeio/here/{rank}"])]:
        if time.monotonic() > end:
            raise RanksLostError(
                f"rank {', '.join(map(str, missing))} of {world.size} did not come within "
                f"{patience.total_seconds():.0f} s; those of the others are on {_hosts(store, world, missing)}"
            )
        time.sleep(0.02)
    store.set(_ALL, b"1")


def _hosts(store: Any, world: World, missing: Sequence[int]) -> str:
    hosts = {store.get(f"codeio/here/{rank}").decode() for rank in range(world.size) if rank not in missing}
    return ", ".join(sorted(hosts))
