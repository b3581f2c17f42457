"""How ranks hear of each other before they trust any collective: messages through a store that rank 0 keeps.

Rank 0 collects what the others report and names those that did not; nobody waits for ever.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar

from codeio_hpc.train.world import World

T = TypeVar("T")
_POLL = 0.02
"""Seconds between two looks at what arrived; the store is in rank 0's own process."""


class NoAnswerError(Exception):
    """Rank 0 cannot be reached, or is silent."""


class Meeting:
    """The meeting place of a world, as one rank sees it.

    Args:
        seconds: how long a rank that does not answer is waited for.

    Raises:
        NoAnswerError: rank 0 could not be reached.
    """

    def __init__(self, world: World, seconds: float) -> None:
        self.world = world
        self._seconds = seconds
        self._store = self._connect(world.rank == 0)

    def _connect(self, is_host: bool) -> Any:
        from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

        world, limit = self.world, timedelta(seconds=self._seconds)
        try:
            return TCPStore(world.address, world.port, None, is_host, timeout=limit, wait_for_workers=False)
        except DistError as error:
            what = "opened no port" if is_host else "cannot be reached"
            raise NoAnswerError(f"rank 0 on {world.address} {what}: {str(error).splitlines()[0]}") from None

    def another_store(self) -> Any:
        """A connection of its own for a process group: one that waits blocks every other use of the same."""
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        return PrefixStore("group", self._connect(is_host=False))

    # -- every rank

    def report(self, step: str, value: Any) -> None:
        """Tell rank 0."""
        self._set(f"{step}/{self.world.rank}", value)

    def hear(self, step: str, seconds: float) -> Any:
        """Wait for what rank 0 announces.

        Raises:
            NoAnswerError: it did not, for so many seconds.
        """
        return self._get(f"{step}/all", seconds)

    # -- rank 0

    def collect(self, step: str, ranks: Collection[int], seconds: float) -> dict[int, Any]:
        """What these ranks report, in their order; those that did not in so many seconds are left out."""
        reports: dict[int, Any] = {}
        deadline = time.monotonic() + seconds
        while len(reports) < len(ranks):
            for rank in ranks:
                if rank not in reports and self._store.check([f"{step}/{rank}"]):
                    reports[rank] = json.loads(self._store.get(f"{step}/{rank}"))
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        return {rank: reports[rank] for rank in sorted(reports)}

    def announce(self, step: str, value: Any) -> None:
        """Tell all ranks."""
        self._set(f"{step}/all", value)

    def serve_clock(self, ranks: Collection[int]) -> None:
        """Let these ranks compare their clocks with rank 0's, one after the other: a busy server answers late, and late
        answers say little."""
        for rank in ranks:
            self._set(f"turn/{rank}", True)
            with suppress(NoAnswerError):
                self._get(f"asks/{rank}", self._seconds)
                self._set(f"time/{rank}", time.time())

    # -- clocks

    def skew(self) -> float:
        """By how many seconds this clock is certainly off rank 0's. Only ranks that rank 0 serves may ask."""
        rank = self.world.rank
        self._get(f"turn/{rank}", self._seconds)
        asked = time.time()
        self._set(f"asks/{rank}", True)
        theirs = float(self._get(f"time/{rank}", self._seconds))
        return max(asked - theirs, theirs - time.time(), 0.0)

    def _set(self, key: str, value: Any) -> None:
        from torch.distributed import DistError

        try:
            self._store.set(key, json.dumps(value))
        except DistError as error:
            raise NoAnswerError(f"rank 0 on {self.world.address} is gone: {str(error).splitlines()[0]}") from None

    def _get(self, key: str, seconds: float) -> Any:
        from torch.distributed import DistError

        try:
            self._store.wait([key], timedelta(seconds=seconds))
            return json.loads(self._store.get(key))
        except DistError as error:
            raise NoAnswerError(f"rank 0 on {self.world.address} is silent: {str(error).splitlines()[0]}") from None


def within(seconds: float, work: Callable[[], T]) -> T:
    """The result of ``work``, done in a thread that is left behind if it takes longer: a GPU that hangs, or a file
    system, never gives its thread back.

    Raises:
        TimeoutError: it took longer.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whoever waits for the result raises it
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    return result.result(seconds)
