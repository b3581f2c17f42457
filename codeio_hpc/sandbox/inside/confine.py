"""What a process gives up: files (Landlock), descriptors, limits, capabilities, system calls."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import struct
from collections.abc import Callable, Sequence
from typing import Any

OUTPUT, REQUESTS, ANSWERS, DEVNULL, LOADED = 3, 10, 11, 12, 13
"""Descriptors: a child's document; requests and answers of the zygote; the null device; the native program."""
MAX_DESCRIPTORS = 64

REHEARSALS = 20
"""CPython 3.11 begins to adapt a function's instructions when it is called for the eighth time."""

# sched.h, linux/prctl.h, linux/seccomp.h, linux/capability.h, linux/landlock.h
CLONE_NEWPID = 0x20000000
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 3, 4, 22, 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_EXECUTE, LANDLOCK_READ_FILE, LANDLOCK_READ_DIR = 1 << 0, 1 << 2, 1 << 3

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """The result of a C call, or ``OSError`` that names it."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


class Filter(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


Steps = list[tuple[Callable[..., Any], tuple[Any, ...]]]
"""Calls and their arguments."""


class Confinement:
    """Prepared by the zygote, so that little is left to do in a child: it pays for everything that it touches with a
    copy of the page on which that lies."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.pid_namespace = bool(settings["pid_namespace"])
        code = bytes.fromhex(settings["filter"])
        self.filter_code = ctypes.create_string_buffer(code)
        self.pid_offsets = settings["pid_offsets"]
        limits = [(resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_MEMLOCK, 0)]
        limits += [(resource.RLIMIT_NPROC, settings["max_threads"])] if settings["max_threads"] is not None else []
        self.last: Steps = [(resource.setrlimit, (which, (value, value))) for which, value in limits]
        if self.pid_namespace:
            nothing = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
            self.last.append((libc.capset, nothing))
        if code:
            if self.pid_namespace:
                self.name_process(1)
            else:
                self.last.append((self.name_process, ()))
            program = Filter(len(code) // 8, ctypes.addressof(self.filter_code))
            self.last.append((libc.prctl, (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)))

    def steps(self, descriptors: Sequence[int], cpu: float, memory: int) -> Steps:
        """Everything that a child gives up, in the order in which each is still allowed.

        Args:
            descriptors: become 0, 1, 2 and so on; all others are closed.
            cpu: seconds, which the zygote watches; the kernel's own limit lies above.
            memory: bytes of address space.
        """
        steps: Steps = [(libc.prctl, (PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))]
        for number, descriptor in enumerate(descriptors):
            steps.append((os.dup2, (descriptor, number)))  # none has a number below 3, and only the last can have 3
        steps.append((os.closerange, (len(descriptors), MAX_DESCRIPTORS)))
        seconds = math.ceil(cpu) + 1
        for which, soft, hard in ((resource.RLIMIT_AS, memory, memory), (resource.RLIMIT_CPU, seconds, seconds + 1)):
            steps.append((resource.setrlimit, (which, (soft, hard))))
        return steps + self.last

    def confine(self, steps: Steps, parent: int) -> None:
        """Carry them out, in the child. ``parent`` is the process that should be its parent still."""
        carry_out(steps)
        if os.getppid() != parent:
            os._exit(70)  # the zygote ended before it was sure to take the child along

    def name_process(self, pid: int | None = None) -> None:
        """Fill in the process that the filter speaks of."""
        for offset in self.pid_offsets:
            struct.pack_into("=I", self.filter_code, offset, pid or os.getpid())


def carry_out(steps: Steps) -> None:
    """Make the calls; ``OSError`` for the first that fails, as C functions or Python's say it."""
    for function, arguments in steps:
        if function(*arguments) == -1:
            raise OSError(ctypes.get_errno(), "confinement")


def rehearse() -> None:
    """Do so with calls that change nothing."""
    for _ in range(REHEARSALS):
        carry_out([(os.getppid, ()), (libc.prctl, (PR_GET_DUMPABLE, 0, 0, 0, 0))])


def restrict_files(readable: list[str], execute: bool, writable: str | None = None) -> None:
    """Landlock: from here on this process and its children read below these paths and nothing else.

    Writing, creating, removing, TCP and, where the kernel knows it, signals and abstract sockets beyond the zygote's
    own children are given up. What Landlock does not cover: names and attributes of files (stat, access).

    Args:
        execute: files below these paths may also be executed: a native program needs its loader.
        writable: below this path everything is allowed.
    """
    abi = checked(libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1), "landlock")
    rights = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)
    attributes = struct.pack("=QQQ", (1 << rights) - 1, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    ruleset = checked(
        libc.syscall(LANDLOCK_CREATE_RULESET, attributes, 24 if abi >= 6 else 16 if abi >= 4 else 8, 0), "landlock"
    )
    for path in [*readable, *([writable] if writable else [])]:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # what cannot be opened here could not be read later either
        allowed = LANDLOCK_READ_FILE | (LANDLOCK_READ_DIR if os.path.isdir(path) else 0)
        allowed |= LANDLOCK_EXECUTE if execute else 0
        if path == writable:
            allowed = (1 << rights) - 1
        rule = struct.pack("=Qi", allowed, descriptor)
        checked(libc.syscall(LANDLOCK_ADD_RULE, ruleset, 1, rule, 0), f"landlock {path}")
        os.close(descriptor)
    checked(libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)
