"""Frames between the worker and a zygote.

Lock step: one request, one answer. Every frame is a fixed header with a magic word and the length of what follows, and
every length is bounded before a byte of it is read. ``inside/zygote.py`` has its own copy of the two layouts, because
nothing of the house but its folder is in a jail; the handshake fails if they differ.
"""

from __future__ import annotations

import math
import os
import select
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

VERSION = 2

REQUEST = struct.Struct("<4sIIQddQQQ")
"""Magic, length of the task, of the standard input, sequence number, CPU seconds, wall seconds, memory bytes, most
bytes of the document, most of the standard output."""
ANSWER = struct.Struct("<4sIIIQBiddQ")
"""Magic, length of the document, of the standard output, of the standard error, sequence number, ending, exit code or
signal, CPU seconds, wall seconds, largest resident bytes."""

CONFIGURE, RUN, PROGRAM, LOAD, NATIVE = b"CCFG", b"CRUN", b"CPRG", b"CLOD", b"CNAT"
"""Handshake; call a function; run a Python program; load a native program; run it."""
HELLO, END = b"CHEL", b"CEND"

MESSAGE_BYTES = 2**16
"""Most bytes of the standard error."""


class JailLostError(Exception):
    """The jail ended, fell silent or broke the protocol. Says nothing about the code that was running."""


class Ending(IntEnum):
    """How the zygote saw the run end."""

    EXITED = 0
    SIGNALLED = 1
    OUT_OF_WALL_TIME = 2
    OUT_OF_CPU_TIME = 3
    ANSWER_TOO_LARGE = 4
    NOT_STARTED = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer frame."""

    ending: Ending
    code: int
    cpu_seconds: float
    wall_seconds: float
    resident_bytes: int
    body: bytes
    """The document."""
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def foul_play(self) -> str | None:
        """What only the outside can have done: samples cannot send SIGKILL, nor keep a fork from starting."""
        if self.ending is Ending.NOT_STARTED:
            return "the process could not be started"
        if self.ending is Ending.SIGNALLED and self.code == 9:
            return "the process was killed from outside, perhaps because the node ran out of memory"
        return None


class Bounds(NamedTuple):
    """What one run may use, and how much may come out of it."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    memory_bytes: int = 0
    document_bytes: int = 2**20
    stdout_bytes: int = 0


NOTHING_RUNS = Bounds()
"""Of a handshake."""


class Channel:
    """The worker's ends of the two pipes of one jail."""

    def __init__(self, to_jail: int, from_jail: int) -> None:
        self._to_jail, self._from_jail = to_jail, from_jail
        self._sequence = 0
        for descriptor in (to_jail, from_jail):
            os.set_blocking(descriptor, False)
        self._readable = select.poll()
        self._readable.register(from_jail, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(to_jail, select.POLLOUT)

    def exchange(
        self,
        magic: bytes,
        body: bytes,
        bounds: Bounds = NOTHING_RUNS,
        deadline_seconds: float = 30.0,
        stdin: bytes = b"",
    ) -> Answer:
        """Send one frame and read the one that answers it.

        Args:
            deadline_seconds: when to give the jail up.

        Raises:
            JailLostError: no answer in time, or not the answer to this request.
        """
        self._sequence += 1
        deadline = time.monotonic() + deadline_seconds
        lengths = (len(body), len(stdin))
        self._write(REQUEST.pack(magic, *lengths, self._sequence, *bounds) + body + stdin, deadline)
        header = self._read(ANSWER.size, deadline)
        word, length, printed, messages, sequence, ending, code, cpu, wall, resident = ANSWER.unpack(header)
        if word != (HELLO if magic == CONFIGURE else END) or sequence != self._sequence:
            raise JailLostError("the jail answered something that was not asked")
        most = (bounds.document_bytes, bounds.stdout_bytes, MESSAGE_BYTES)
        too_long = any(size > room for size, room in zip((length, printed, messages), most, strict=True))
        if too_long or ending > max(Ending) or not (0 <= cpu < math.inf and 0 <= wall < math.inf):
            raise JailLostError("the jail answered with an impossible header")
        body, stdout, stderr = (self._read(size, deadline) for size in (length, printed, messages))
        return Answer(Ending(ending), code, cpu, wall, resident, body, stdout, stderr)

    def _write(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._to_jail, view) :]
            except BlockingIOError:
                self._wait(self._writable, deadline)
            except OSError as error:
                raise JailLostError(f"the jail is gone ({error.strerror})") from None

    def _read(self, length: int, deadline: float) -> bytes:
        parts: list[bytes] = []
        while length:
            try:
                part = os.read(self._from_jail, min(length, 2**20))
            except BlockingIOError:
                self._wait(self._readable, deadline)
                continue
            except OSError as error:
                raise JailLostError(f"the jail is gone ({error.strerror})") from None
            if not part:
                raise JailLostError("the jail ended")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    @staticmethod
    def _wait(poll: select.poll, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000 + 1):
            raise JailLostError("the jail did not answer in time")

    def close(self) -> None:
        """Close both ends; the zygote takes that as the order to end."""
        os.close(self._to_jail)
        os.close(self._from_jail)
