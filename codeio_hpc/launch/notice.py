"""Being told to stop: by a signal, or by the clock. The same for data tasks and training ranks.

SLURM sends SIGTERM, or what --signal names, or both; sites differ in which comes and whether any does. So every signal
means the same, and what it was for is told from the clock (SchedMD: sbatch(1) --signal, scancel(1), slurm.conf(5)).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Schedulers use SIGTERM, or what --signal names; people use Ctrl-C."""

FAILED = 1
"""Exit code of what could not be finished, and said why. Batch scripts do not start it again."""

SAVED = 85
"""Exit code of what was told to stop, or ran out of time: what it did is kept; start it again. slurm/lib/attempt.sh
has it too."""

MISCONFIGURED = 64
"""Exit code of what found a wrong setting: to start it again would not help. slurm/lib/attempt.sh has it too."""

PASSING = 75
"""Exit code of training whose ranks lost each other; no other work ends with it. The last checkpoint is whole: start it
again, maybe on other nodes. slurm/lib/attempt.sh has it too."""

WARNING_SECONDS = 300
"""How long before its time limit training asks to be warned: a save takes minutes, and the warning may come early. Data
tasks ask for another (CODEIO_WARNING says what a job asked for)."""

_EARLY_SECONDS = 60
"""SLURM may signal this much earlier than asked for (sbatch(1))."""


class Notice:
    """Remembers that this process was told to stop.

    Args:
        heard: called in the signal handler, at the first signal and at each further one.
        hangup: a closed terminal is heeded too, unless it is ignored (nohup).
    """

    def __init__(self, heard: Callable[[Notice], None] = lambda notice: None, hangup: bool = False) -> None:
        self.received: str | None = None
        """Name of the first signal."""
        self.when: float | None = None
        """When that came, in seconds since the epoch."""
        self._heard = heard
        deadline = os.environ.get("CODEIO_DEADLINE")
        self._warned = os.environ.get("CODEIO_WARNED") == "1"
        self._warning = float(os.environ.get("CODEIO_WARNING", WARNING_SECONDS))
        self.deadline = float(deadline) if deadline else None
        """When SLURM will end the job (seconds since the epoch); the batch shell knows. None: no limit is known."""
        heeds_hangup = hangup and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
        heeded = (*SIGNALS, signal.SIGHUP) if heeds_hangup else SIGNALS
        self._before = {number: signal.signal(number, self._handle) for number in heeded}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.when = self.when or time.time()
        self.received = self.received or signal.Signals(number).name
        self._heard(self)

    def restore(self) -> None:
        """Give the signals back to whoever handled them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def seconds_left(self) -> float:
        """Until the time limit; infinite where none is known."""
        left = float("inf") if self.deadline is None else self.deadline - time.time()
        return min(left, self._warning) if self.received and self.is_for_the_time_limit() else left

    def is_for_the_time_limit(self) -> bool:
        """Whether the first signal is the warning before the time limit, or that limit itself.

        The clock tells; and where the site does not signal before it preempts, what we asked for (USR1) comes for no
        other reason, even if somebody has shortened the limit since.
        """
        asked_for = self.received in ("SIGUSR1", "SIGUSR2") and not self._warned
        return asked_for or time.time() >= (self.deadline or float("inf")) - self._warning - _EARLY_SECONDS
