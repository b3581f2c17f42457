"""Who hangs, and who is slow: said by name, instead of an hour's silence and a time-out of NCCL. Loads torch."""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from codeio_hpc.launch.notice import PASSING
from codeio_hpc.train.meeting import Ranks, RanksLostError, open_store

PULSE = 2.0
"""Seconds between two signs of life of a rank."""
STRAGGLES = 1.5
"""A rank whose forward passes take so many times the median's is named."""
LAGS = 0.05
"""And so many seconds longer: where the passes of a step take milliseconds, whoever is interrupted once is that far."""
LASTS = 15
"""And for so many looks in a row, one every :data:`PULSE` seconds."""
WARM_UP = 3
"""Steps of an attempt that do not count: memory is claimed, and kernels are chosen or compiled."""
_AGAIN = 600.0
"""Seconds between two warnings about stragglers."""


@dataclass
class Pulse:
    """What a rank says of itself."""

    count: int = 0
    """Grows with all that it does."""
    at: str = "start"
    """What it is doing, for people."""
    forward: float = 0.0
    """Seconds of its latest forward passes, on average."""
    host: str = field(default_factory=socket.gethostname)


class Watchdog:
    """One thread in every rank tells how far it is; rank 0's looks at all of them."""

    def __init__(self, ranks: Ranks, patience: float) -> None:
        """``patience``: seconds without progress of any rank after which all are ended."""
        self._ranks = ranks
        self._patience = patience
        self._mine = Pulse()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._steps = 0

    def begin(self) -> None:
        """Watch from now on: before the first step, ranks wait for each other for good reasons."""
        if self._ranks.size > 1:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def at(self, what: str) -> None:
        """This rank begins something new."""
        self._mine.at = what
        self._mine.count += 1

    def forward_took(self, seconds: float) -> None:
        """Those of a step, without waiting for others."""
        self._steps += 1
        if self._steps > WARM_UP:
            self._mine.forward = seconds if not self._mine.forward else 0.9 * self._mine.forward + 0.1 * seconds

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        try:
            # a connection of its own: the main one may be waiting for an answer
            store = open_store(self._ranks.world, timedelta(seconds=60), listen=False)
            looks = Looks(self._ranks.size, self._patience)
            while True:
                store.set(f"codeio/pulse/{self._ranks.rank}", json.dumps(vars(self._mine)))
                if self._ranks.rank == 0:
                    self._look(store, looks)
                if store.check(["codeio/hangs"]):
                    _leave()
                if self._ended.wait(PULSE):
                    return
        except (RuntimeError, RanksLostError):  # rank 0 is gone: the main thread will notice by its own means
            return

    def _look(self, store: Any, looks: Looks) -> None:
        pulses = {}
        for rank in range(self._ranks.size):
            key = f"codeio/pulse/{rank}"
            if store.check([key]):
                pulses[rank] = Pulse(**json.loads(store.get(key)))
        if len(pulses) < self._ranks.size:
            return
        for warning in looks.warnings(pulses, time.monotonic()):
            print(f"codeio: {warning}", file=sys.stderr, flush=True)
        if hang := looks.hang(pulses, time.monotonic()):
            print(f"codeio: {hang}", file=sys.stderr, flush=True)
            store.set("codeio/hangs", hang)
            time.sleep(2 * PULSE)  # the others read it from this process
            _leave()


class Looks:
    """What the pulses of all ranks tell, looked at again and again."""

    def __init__(self, size: int, patience: float) -> None:
        self._patience = patience
        self._counts: dict[int, int] = dict.fromkeys(range(size), -1)
        self._moved = time.monotonic()
        self._warned = -_AGAIN
        self._slow: dict[int, int] = {}
        """Rank: for how many looks in a row it has been slow."""

    def hang(self, pulses: dict[int, Pulse], now: float) -> str:
        """Who is behind, if no rank has moved for too long; otherwise nothing."""
        counts = {rank: pulse.count for rank, pulse in pulses.items()}
        if counts != self._counts:
            self._counts, self._moved = counts, now
        if now - self._moved < self._patience:
            return ""
        least = min(counts.values())
        behind = [rank for rank, count in counts.items() if count == least]
        waits = f"; the others wait for it at {max(pulses.values(), key=lambda pulse: pulse.count).at}"
        names = ", ".join(f"rank {rank} (on {pulses[rank].host})" for rank in behind[:8])
        where = f"{names} {'has' if len(behind) == 1 else 'have'} not got beyond: {pulses[behind[0]].at}"
        return f"no progress for {now - self._moved:.0f} s: {where}{waits if len(behind) < len(counts) else ''}"

    def warnings(self, pulses: dict[int, Pulse], now: float) -> list[str]:
        """Ranks that compute slower than the others: a hot or shared GPU, a node that is not well."""
        times = {rank: pulse.forward for rank, pulse in pulses.items() if pulse.forward}
        if len(times) < len(pulses):
            return []
        median = statistics.median_low(times.values())
        least = max(STRAGGLES * median, median + LAGS)
        self._slow = {rank: self._slow.get(rank, 0) + 1 for rank, seconds in times.items() if seconds > least}
        slow = [rank for rank, looks in self._slow.items() if looks >= LASTS]
        if not slow or now - self._warned < _AGAIN:
            return []
        self._warned = now
        factors = {f"rank {rank} (on {pulses[rank].host})": times[rank] / median for rank in slow}
        return [f"{who} computes {factor:.1f} x as long as the median of the ranks" for who, factor in factors.items()]


def _leave() -> None:
    """From this thread: the main one is in a collective operation that will not end."""
    sys.stderr.flush()
    os._exit(PASSING)
