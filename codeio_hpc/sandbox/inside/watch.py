"""What comes out of a running child, until it ends or has to be ended."""

from __future__ import annotations

import math
import mmap
import os
import select
import signal
import time

from codeio_hpc.sandbox.inside.confine import REQUESTS
from codeio_hpc.sandbox.inside.forks import Child

EXITED, SIGNALLED, OUT_OF_WALL_TIME, OUT_OF_CPU_TIME, ANSWER_TOO_LARGE, NOT_STARTED = range(6)
"""``protocol.Ending``."""

QUIET_SECONDS = 0.01
"""Most children end sooner, and a pipe holds what they send. To be woken for that, while they are still there, would
cost the zygote copies of the pages that it works with."""


def private_memory(size: int) -> mmap.mmap:
    """An anonymous mapping that a child gets a copy of; a shared one it could write to after the fork."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Sink:
    """One pipe out of a child: keeps what fits, and notices when there is more. Lives as long as the zygote."""

    def __init__(self) -> None:
        self.memory = private_memory(2**16)
        self.most = self.size = 0
        self.reads = -1

    def open(self, most: int) -> int:
        """A pipe for the next child, of which ``most`` bytes are kept. Returns the child's end."""
        if most > len(self.memory):
            self.memory.close()
            self.memory = private_memory(most)
        self.most, self.size = most, 0
        self.reads, writes = os.pipe()
        return writes

    def take(self) -> int:
        """Read what there is, at most one byte more than may come. Returns how much came; 0 at the end."""
        if self.size >= self.most:
            count = len(os.read(self.reads, 1))
        else:
            count = os.readv(self.reads, [memoryview(self.memory)[self.size : self.most]])
        self.size += count
        return count

    def drain(self) -> None:
        """Read the rest of a dead child's output. What a process it left behind holds open is not waited for."""
        os.set_blocking(self.reads, False)
        try:
            while not self.overflowed and self.take():
                pass
        except BlockingIOError:
            pass

    @property
    def overflowed(self) -> bool:
        """Whether more came than may."""
        return self.size > self.most

    @property
    def content(self) -> memoryview:
        """What came."""
        return memoryview(self.memory)[: self.size]

    def close(self) -> None:
        """Close the pipe; the content stays."""
        os.close(self.reads)

    def forget(self) -> None:
        """Empty the memory, before the next child gets a copy of it."""
        self.size = 0
        self.memory.madvise(mmap.MADV_DONTNEED)


class Tail(Sink):
    """Keeps the last part of what comes, at least half of ``most``: messages say at their end what went wrong."""

    def take(self) -> int:
        if self.size == self.most:
            half = self.most // 2
            self.memory.move(0, half, self.most - half)
            self.size = self.most - half
        return super().take()


def watch(child: Child, sinks: list[Sink], deadline: float, cpu: float) -> int | None:
    """Serve a child's pipes until it ends. Returns why it has to be killed, or None if it ended.

    The end of the process counts, not the end of its output: a process left behind could hold that open.

    Args:
        deadline: on the monotonic clock.
        cpu: seconds.
    """
    poll = select.poll()
    poll.register(child.ended, select.POLLIN)
    poll.register(REQUESTS, 0)  # only to see that the worker hung up
    now = time.monotonic()
    look = now + cpu
    quiet = len(sinks) == 1  # a function; programs print more than a pipe holds
    if quiet and poll.poll(1000 * min(QUIET_SECONDS, max(0.0, deadline - now))) == [(child.ended, select.POLLIN)]:
        return None
    now = time.monotonic()
    by_descriptor = {}
    for sink in sinks:
        poll.register(sink.reads, select.POLLIN)
        by_descriptor[sink.reads] = sink
    cpu_clock = (~child.pid << 3) | 2  # what clock_getcpuclockid(3) computes
    while True:
        events = poll.poll(math.ceil(1000 * max(0.0, min(deadline, look) - now)) + 1)
        for descriptor, _ in events:
            if descriptor == REQUESTS:
                os.kill(child.pid, signal.SIGKILL)
                raise SystemExit("the worker is gone")
            if descriptor == child.ended:
                return None
            readable = by_descriptor[descriptor]
            if readable.take() == 0:
                poll.unregister(descriptor)
            elif readable.overflowed:
                return ANSWER_TOO_LARGE
        now = time.monotonic()
        if now >= deadline:
            return OUT_OF_WALL_TIME
        if now >= look:
            try:
                used = time.clock_gettime(cpu_clock)
            except OSError:  # it has just ended
                continue
            if used >= cpu:
                return OUT_OF_CPU_TIME
            look = now + cpu - used
