"""How a child comes to life, in a PID namespace of its own where there is one, and how its end is seen.

From Linux 5.8 on the zygote enters a new namespace for its next child and comes back through a pidfd. Older kernels
let nobody back, so there a process in between makes the namespace and the child, and tells how it ended.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
from typing import NamedTuple

from codeio_hpc.sandbox.inside.confine import CLONE_NEWPID, MAX_DESCRIPTORS, PR_SET_PDEATHSIG, checked, libc

_STARTED = struct.Struct("=q")
"""Process id of the child."""
_ENDED = struct.Struct("=idq")
"""Wait status, CPU seconds, largest resident KiB."""


class Child(NamedTuple):
    """A child that runs."""

    pid: int
    """As the zygote sees it."""
    ended: int
    """Descriptor, readable when it has ended."""
    between: int
    """The process in between, or 0."""


class Usage(NamedTuple):
    """What a child used."""

    status: int
    """As wait(2) gives it."""
    cpu_seconds: float
    resident_bytes: int


class Forks:
    """Starts children one at a time.

    Args:
        namespace: each in a PID namespace of its own.
        pidfd: the kernel takes a pidfd in setns(2).
    """

    def __init__(self, namespace: bool, pidfd: bool) -> None:
        self.namespace = namespace
        self.own_pidfd = os.pidfd_open(os.getpid()) if pidfd else -1
        self.parent = 0 if namespace else os.getpid()
        """What a child sees as its parent."""

    def start(self) -> Child:
        """Fork. Returns the child; to the child itself, one with process id 0.

        Raises:
            OSError: no child could be made.
        """
        if self.own_pidfd < 0:
            return self._start_in_between()
        try:
            if self.namespace:
                checked(libc.unshare(CLONE_NEWPID), "unshare")
            pid = os.fork()
        except OSError:
            self._come_back()
            raise
        if pid == 0:
            return Child(0, -1, 0)
        return Child(pid, os.pidfd_open(pid), 0)

    def _come_back(self) -> None:
        """Once the child is gone: what the zygote touches before that, it shares with it and has to copy."""
        if self.namespace:
            checked(libc.setns(self.own_pidfd, CLONE_NEWPID), "setns")

    def _start_in_between(self) -> Child:
        reads, writes = os.pipe()
        zygote = os.getpid()
        between = os.fork()
        if between == 0 and self._be_in_between(zygote, writes):
            os.close(reads)
            os.close(writes)
            return Child(0, -1, 0)
        os.close(writes)
        told = os.read(reads, _STARTED.size)
        if len(told) < _STARTED.size:
            os.close(reads)
            os.waitpid(between, 0)
            raise OSError(errno.EAGAIN, "no child")
        return Child(_STARTED.unpack(told)[0], reads, between)

    def _be_in_between(self, zygote: int, writes: int) -> bool:
        """Make the child and tell how it ends. Returns in the child only."""
        try:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if self.namespace:
                checked(libc.unshare(CLONE_NEWPID), "unshare")
            else:
                self.parent = os.getpid()
            if os.getppid() != zygote:
                os._exit(0)
            pid = os.fork()
        except OSError:
            os._exit(0)  # the zygote finds nothing in the pipe
        if pid == 0:
            return True
        os.closerange(3, writes)  # the child's pipes are its own
        os.closerange(writes + 1, MAX_DESCRIPTORS)
        try:
            os.write(writes, _STARTED.pack(pid))
            _, status, usage = os.wait4(pid, 0)
            os.write(writes, _ENDED.pack(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss))
        finally:
            os._exit(0)

    def reap(self, child: Child) -> Usage:
        """Wait for a child that has ended, or is about to."""
        try:
            if not child.between:
                _, status, usage = os.wait4(child.pid, 0)
                return Usage(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
            told = os.read(child.ended, _ENDED.size)
            os.waitpid(child.between, 0)
            if len(told) < _ENDED.size:  # something outside killed the process in between, and the child with it
                return Usage(signal.SIGKILL, 0.0, 0)
            status, used, resident = _ENDED.unpack(told)
            return Usage(status, used, resident * 1024)
        finally:
            os.close(child.ended)
            if not child.between:
                self._come_back()
