"""The seccomp filter: an allow-list of system calls, assembled by hand.

Built in the worker, installed by the zygote's child through ``prctl`` (0.1 ms; libseccomp's bindings take 1.1 ms and
need a library of the host). When a filter is installed, Linux from 5.11 on runs it once for every system call number,
to know which calls are allowed whatever their arguments; so a number finds its rule by halving, not by going through
all of them. Each rule is a self-contained run of instructions ending in a return. ``evaluate`` is a pure-Python
interpreter of the same instructions: an off-by-one in a jump once allowed everything, so the tests ask it for the
verdict of every system call number.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from codeio_hpc.sandbox.jail.syscalls import AUDIT_ARCH, NUMBERS

# linux/bpf_common.h, linux/seccomp.h
LOAD, AND, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
ALLOW, REFUSE, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER_OFFSET, ARCH_OFFSET, ARGS_OFFSET = 0, 4, 16
MAX_JUMP = 255
X32_BIT = 0x40000000
"""Numbers from here on are the x32 ABI of x86-64: a second table of the same calls."""

OWN_PID = -1
"""A condition's value that the zygote's child replaces by its own process id."""

_PLAIN_TEXT = """
    read write close fstat newfstatat stat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask
    rt_sigreturn pread64 pwrite64 readv writev preadv pwritev access pipe pipe2 select pselect6 ppoll
    sched_yield mremap msync mincore madvise dup dup2 dup3 nanosleep clock_nanosleep getitimer setitimer alarm
    getpid gettid getppid getpgrp getpgid getsid getuid geteuid getgid getegid getresuid getresgid getgroups
    capget exit exit_group wait4 uname fsync fdatasync getdents getdents64 getcwd chdir fchdir umask readlink
    readlinkat gettimeofday time getrlimit getrusage sysinfo times rt_sigpending rt_sigtimedwait rt_sigsuspend
    sigaltstack statfs fstatfs statx sched_getparam sched_getscheduler sched_get_priority_max
    sched_get_priority_min sched_getaffinity getcpu futex futex_waitv epoll_create epoll_create1 epoll_ctl
    epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime
    set_tid_address restart_syscall clock_gettime clock_getres getrandom membarrier rseq set_robust_list
    get_robust_list faccessat faccessat2 close_range fadvise64 shutdown getsockname getpeername getsockopt
    setsockopt
"""
PLAIN = _PLAIN_TEXT.split()
"""Allowed whatever the arguments: they read, wait, or change nothing beyond the process itself."""


@dataclass(frozen=True)
class Condition:
    """Holds if argument ``index``, masked, equals one of ``values``.

    Only the low 32 bits count, which is what the kernel takes of an int; with ``wide`` the high 32 bits must also be
    zero (for pointers, where only 0 makes sense to ask for).
    """

    index: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    wide: bool = False


@dataclass(frozen=True)
class Rule:
    """Allow the call if all conditions hold; else it fails with ``otherwise``."""

    call: str
    conditions: tuple[Condition, ...] = ()
    otherwise: int = errno.EPERM
    allowed: bool = True


# fcntl.h: O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | the O_TMPFILE bit
_WRITES = 0o3 | 0o100 | 0o1000 | 0o2000 | 0o20000000
# sched.h: a thread shares memory, file system, descriptors, handlers and thread group with its creator ...
_THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000
# ... and asks for no namespace (NEWNS, NEWCGROUP .. NEWNET, NEWTIME), tracing, vfork or other parent
_NOT_THREAD = 0x20000 | 0x7E000000 | 0x80 | 0x2000 | 0x4000 | 0x8000
_SIGABRT, _NULL, _AF_UNIX = 6, (0,), 1

SPECIAL = (
    # Reading only, on every level: a sample that could write would leave something for the next one.
    Rule("open", (Condition(1, (0,), _WRITES),), errno.EROFS),
    Rule("openat", (Condition(2, (0,), _WRITES),), errno.EROFS),
    # clone3 and openat2 pass their flags in memory, which a filter cannot read; ENOSYS makes libc use the old call.
    Rule("clone3", allowed=False, otherwise=errno.ENOSYS),
    Rule("openat2", allowed=False, otherwise=errno.ENOSYS),
    Rule("clone", (Condition(0, (_THREAD,), _THREAD | _NOT_THREAD),)),
    # abort() signals its own thread. Nothing else may be signalled, and nobody may send SIGKILL: so a SIGKILL that
    # the zygote did not send comes from outside (the kernel short of memory, an administrator), never from a sample.
    Rule("tgkill", (Condition(0, (OWN_PID,)), Condition(2, (_SIGABRT,)))),
    Rule("prlimit64", (Condition(0, (0, OWN_PID)), Condition(2, _NULL, wide=True))),
    # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: what isatty(), sockets and asyncio ask
    Rule("ioctl", (Condition(1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),), errno.ENOTTY),
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETPIPE_SZ, F_DUPFD_CLOEXEC, F_GET_SEALS
    Rule("fcntl", (Condition(1, (0, 1, 2, 3, 4, 1032, 1030, 1034)),)),
    # PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_SET_VMA (names of memory areas)
    Rule("prctl", (Condition(0, (3, 15, 16, 39, 0x53564D41)),)),
    # Unnamed pairs of AF_UNIX sockets for asyncio's wake-up; without an address, nothing outside can be named.
    Rule("socketpair", (Condition(0, (_AF_UNIX,)),)),
    Rule("sendto", (Condition(4, _NULL, wide=True),)),
    Rule("recvfrom"),
)


@dataclass(frozen=True)
class Instruction:
    """One ``struct sock_filter``."""

    code: int
    jump_true: int
    jump_false: int
    value: int


@dataclass(frozen=True)
class Program:
    """A filter and the places where the process id is filled in after the fork."""

    instructions: tuple[Instruction, ...]
    pid_slots: tuple[int, ...]

    def packed(self) -> bytes:
        """The instructions as the kernel reads them, process ids still zero."""
        return b"".join(
            struct.pack("=HBBI", one.code, one.jump_true, one.jump_false, max(one.value, 0))
            for one in self.instructions
        )

    def pid_offsets(self) -> list[int]:
        """Where in ``packed()`` the 32-bit process id goes."""
        return [8 * slot + 4 for slot in self.pid_slots]


PYTHON = (*(Rule(call) for call in PLAIN), *SPECIAL)
"""For the Python code that a forked child runs."""

NATIVE = (
    *PYTHON,
    # the one program; a second one could do no more, as the filter stays
    Rule("execve"),
    Rule("execveat"),
    Rule("arch_prctl", (Condition(0, (0x1002, 0x1003)),)),  # asm/prctl.h: ARCH_SET_FS, ARCH_GET_FS, where threads keep
)
"""For compiled programs."""


def build(machine: str, rules: Sequence[Rule] = PYTHON) -> Program:
    """The allow-list for ``machine`` (``x86_64`` or ``aarch64``).

    Raises:
        KeyError: no system call table for this machine.
        ValueError: too many rules for one jump.
    """
    numbers = NUMBERS[machine]
    unknown = _body(Rule("", allowed=False))
    # older calls (open, stat, poll ...) do not exist on newer machines
    bodies = {numbers[rule.call]: _body(rule) for rule in rules if rule.call in numbers}
    spans = [(0, bodies.get(0, unknown))]
    for number in sorted(bodies.keys() | {number + 1 for number in bodies}):
        body = bodies.get(number, unknown)
        if body != spans[-1][1]:
            spans.append((number, body))
    code = [
        Instruction(LOAD, 0, 0, ARCH_OFFSET),
        Instruction(JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        Instruction(RETURN, 0, 0, KILL_PROCESS),
        Instruction(LOAD, 0, 0, NUMBER_OFFSET),
        Instruction(JUMP_GREATER_EQUAL, 0, 1, X32_BIT),
        Instruction(RETURN, 0, 0, KILL_PROCESS),
        *_halved(spans),
    ]
    slots = tuple(place for place, one in enumerate(code) if one.value == OWN_PID)
    return Program(tuple(code), slots)


def _halved(spans: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """What to do for each span of numbers, given by its first number; the number is in the accumulator."""
    if len(spans) == 1:
        return spans[0][1]
    half = len(spans) // 2
    below, from_there = _halved(spans[:half]), _halved(spans[half:])
    if len(below) > MAX_JUMP:
        raise ValueError(f"a jump over {len(below)} instructions")
    return [Instruction(JUMP_GREATER_EQUAL, len(below), 0, spans[half][0]), *below, *from_there]


def _body(rule: Rule) -> list[Instruction]:
    """The verdict on one call."""
    refuse = Instruction(RETURN, 0, 0, REFUSE | rule.otherwise)
    body: list[Instruction] = []
    for condition in rule.conditions:
        body += _condition(condition, refuse)
    return [*body, Instruction(RETURN, 0, 0, ALLOW) if rule.allowed else refuse]


def _condition(condition: Condition, refuse: Instruction) -> list[Instruction]:
    low = ARGS_OFFSET + 8 * condition.index  # little-endian: the low word comes first
    code: list[Instruction] = []
    if condition.wide:
        code += [Instruction(LOAD, 0, 0, low + 4), Instruction(JUMP_EQUAL, 1, 0, 0), refuse]
    code.append(Instruction(LOAD, 0, 0, low))
    if condition.mask != 0xFFFFFFFF:
        code.append(Instruction(AND, 0, 0, condition.mask))
    for place, value in enumerate(condition.values):
        after = len(condition.values) - place - 1
        code.append(Instruction(JUMP_EQUAL, after + 1, 0, value))  # over the other comparisons and the refusal
    code.append(refuse)
    return code


def evaluate(program: Program, arch: int, number: int, args: Sequence[int] = (), pid: int = 1) -> int:
    """What the kernel would answer for one system call: ``ALLOW``, ``KILL_PROCESS`` or ``REFUSE | errno``.

    Raises:
        ValueError: the program jumps past its end or uses an unknown instruction.
    """
    data = struct.pack("<IIQ6Q", number, arch, 0, *[*args, *[0] * (6 - len(args))])
    accumulator = place = 0
    while place < len(program.instructions):
        one = program.instructions[place]
        value = pid if place in program.pid_slots else one.value
        place += 1
        if one.code == LOAD:
            accumulator = int.from_bytes(data[value : value + 4], "little")
        elif one.code == AND:
            accumulator &= value
        elif one.code == JUMP_EQUAL:
            place += one.jump_true if accumulator == value else one.jump_false
        elif one.code == JUMP_GREATER_EQUAL:
            place += one.jump_true if accumulator >= value else one.jump_false
        elif one.code == RETURN:
            return value
        else:
            raise ValueError(f"unknown instruction {one.code:#x}")
    raise ValueError("the program ends without a verdict")
