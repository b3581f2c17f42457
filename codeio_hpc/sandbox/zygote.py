"""Pid 1 of a jail: forks one child for every execution, watches it, reports how it ended.

Runs inside the jail together with ``guest.py`` (what the child does) and nothing else of the house; both use the
standard library only. The zygote itself never decodes a request: it copies the bytes into a private mapping that the
child inherits, and empties the mapping afterwards, so that the next child finds no trace of the sample before it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import mmap
import os
import resource
import select
import signal
import struct
import sys
import time
from types import ModuleType
from typing import Any

VERSION = 1
REQUEST = struct.Struct("<4sIQddQQ")
ANSWER = struct.Struct("<4sIQBiddQ")
CONFIGURE, RUN, HELLO, END = b"CCFG", b"CRUN", b"CHEL", b"CEND"
EXITED, SIGNALLED, OUT_OF_WALL_TIME, OUT_OF_CPU_TIME, ANSWER_TOO_LARGE, NOT_STARTED = range(6)

REQUESTS, ANSWERS, DEVNULL, OUTPUT = 10, 11, 12, 3
"""Descriptors: requests and answers of the zygote, the null device; the child's only way out."""
MAX_DESCRIPTORS = 64

# sched.h, linux/prctl.h, linux/seccomp.h, linux/capability.h, linux/landlock.h
CLONE_NEWPID = 0x20000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_READ_FILE, LANDLOCK_READ_DIR = 1 << 2, 1 << 3
CLOSE_RANGE = 436

Ended = tuple[int, int, float, float, int, int]
"""Ending, exit code or signal, CPU seconds, wall seconds, largest resident bytes, bytes of the answer."""

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


class Zygote:
    """The state between two runs: descriptors, buffers and the prepared filter. No request is ever kept in it."""

    def __init__(self, settings: dict[str, Any], guest: ModuleType) -> None:
        self.guest = guest
        self.pid_namespace = bool(settings["pid_namespace"])
        self.max_threads = settings["max_threads"]
        self.request = private_memory(settings["max_request_bytes"])
        self.answer = private_memory(2**16)
        self.empty_capabilities = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
        code = bytes.fromhex(settings["filter"])
        self.filter_code = ctypes.create_string_buffer(code, len(code)) if code else None
        self.pid_offsets = settings["pid_offsets"]
        self.filter = Filter(len(code) // 8, ctypes.addressof(self.filter_code) if self.filter_code else None)
        self.own_pidfd = os.pidfd_open(os.getpid())

    def serve(self) -> None:
        """Answer requests until the worker closes its end."""
        while True:
            magic, length, sequence, cpu, wall, memory, most = REQUEST.unpack(read_exactly(REQUEST.size))
            if magic != RUN or length > len(self.request):
                raise SystemExit("unknown request")
            fill(memoryview(self.request)[:length])
            if most > len(self.answer):
                self.answer.close()
                self.answer = private_memory(most)
            ending, code, used, lasted, resident, size = self.run(length, cpu, wall, memory, most)
            header = ANSWER.pack(END, size, sequence, ending, code, used, lasted, resident)
            send(header, memoryview(self.answer)[:size])
            for buffer in (self.request, self.answer):
                buffer.madvise(mmap.MADV_DONTNEED)

    def run(self, length: int, cpu: float, wall: float, memory: int, most: int) -> Ended:
        """Fork, watch, reap."""
        start = time.monotonic()
        output, child_output = os.pipe()
        try:
            if self.pid_namespace:
                checked(libc.unshare(CLONE_NEWPID), "unshare")
            pid = os.fork()
        except OSError:
            os.close(output)
            os.close(child_output)
            return NOT_STARTED, 0, 0.0, 0.0, 0, 0
        if pid == 0:
            self.child(length, child_output, cpu, memory, most)
        os.close(child_output)
        if self.pid_namespace:
            checked(libc.setns(self.own_pidfd, CLONE_NEWPID), "setns")
        pidfd = os.pidfd_open(pid)
        try:
            ending, size = self.watch(pid, pidfd, output, start + wall, cpu, most)
            if ending is not None:
                os.kill(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            if ending is None:
                size = self.drain(output, size, most)
                ending = ANSWER_TOO_LARGE if size > most else None
        finally:
            os.close(pidfd)
            os.close(output)
        return self.verdict(ending, status, usage, cpu, start, size)

    @staticmethod
    def verdict(
        ending: int | None, status: int, usage: resource.struct_rusage, cpu: float, start: float, size: int
    ) -> Ended:
        """The fields of the answer. What the child sent counts only if it then ended by itself."""
        used = usage.ru_utime + usage.ru_stime
        code = os.waitstatus_to_exitcode(status)
        if ending is None:
            ending = EXITED if code >= 0 else SIGNALLED
            if code in (-signal.SIGXCPU, -signal.SIGKILL) and used >= cpu:
                ending = OUT_OF_CPU_TIME
        if ending != EXITED:
            size = 0
        return ending, abs(code), used, time.monotonic() - start, usage.ru_maxrss * 1024, size

    def watch(
        self, pid: int, pidfd: int, output: int, deadline: float, cpu: float, most: int
    ) -> tuple[int | None, int]:
        """Collect the child's output until it ends; (why to kill it, bytes so far), or (None, bytes) if it ended.

        The end of the process counts, not the end of its output: a process left behind could hold that open.
        """
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(output, select.POLLIN)
        poll.register(REQUESTS, 0)  # only whether the worker hung up
        size, used = 0, 0.0
        cpu_clock = (~pid << 3) | 2  # what clock_getcpuclockid(3) computes
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return OUT_OF_WALL_TIME, size
            if used >= cpu:
                return OUT_OF_CPU_TIME, size
            events = poll.poll(math.ceil(1000 * min(left, cpu - used)) + 1)
            for descriptor, event in events:
                if descriptor == REQUESTS and event:
                    os.kill(pid, signal.SIGKILL)
                    raise SystemExit("the worker is gone")
            ready = {descriptor for descriptor, _ in events}
            if output in ready:
                count = self.take(output, size, most)
                size += count
                if size > most:
                    return ANSWER_TOO_LARGE, size
                if count == 0 and pidfd not in ready:
                    poll.unregister(output)
            if pidfd in ready:
                return None, size
            if not events:
                try:
                    used = time.clock_gettime(cpu_clock)
                except OSError:  # it has just ended
                    used = 0.0

    def take(self, output: int, size: int, most: int) -> int:
        """Read what there is, at most one byte more than may come."""
        if size >= most:
            return len(os.read(output, 1))
        return os.readv(output, [memoryview(self.answer)[size:most]])

    def drain(self, output: int, size: int, most: int) -> int:
        """Read the rest of a dead child's output."""
        os.set_blocking(output, False)
        while size <= most:
            try:
                count = self.take(output, size, most)
            except BlockingIOError:
                break
            if count == 0:
                break
            size += count
        return size

    def child(self, length: int, output: int, cpu: float, memory: int, most: int) -> None:
        """Give everything up, then run the sample. Never returns."""
        leave = os._exit  # the sample may put something else in its place
        try:
            self.confine(output, cpu, memory)
            self.guest.run(bytes(memoryview(self.request)[:length]), OUTPUT, most)
        finally:
            leave(70)

    def confine(self, output: int, cpu: float, memory: int) -> None:
        """Descriptors, limits, capabilities and the filter of a child, in the order in which each is still allowed."""
        parent = os.getppid()
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(70)
        os.dup2(output, OUTPUT)
        for descriptor in (0, 1, 2):
            os.dup2(DEVNULL, descriptor)
        os.closerange(OUTPUT + 1, MAX_DESCRIPTORS)
        seconds = math.ceil(cpu) + 1
        limits = [
            (resource.RLIMIT_AS, memory, memory),
            (resource.RLIMIT_CPU, seconds, seconds + 1),
            (resource.RLIMIT_FSIZE, 0, 0),
            (resource.RLIMIT_MEMLOCK, 0, 0),
        ]
        if self.max_threads is not None:
            limits.append((resource.RLIMIT_NPROC, self.max_threads, self.max_threads))
        for which, soft, hard in limits:
            resource.setrlimit(which, (soft, hard))
        if self.pid_namespace:
            checked(libc.capset(*self.empty_capabilities), "capset")
        if self.filter_code is not None:
            pid = os.getpid()
            for offset in self.pid_offsets:
                struct.pack_into("=I", self.filter_code, offset, pid)
            checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(self.filter), 0, 0), "seccomp")


def private_memory(size: int) -> mmap.mmap:
    """An anonymous mapping that a child gets a copy of; a shared one it could write to after the fork."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def read_exactly(length: int) -> bytes:
    """A header from the worker; ends the zygote when the worker is gone."""
    data = bytearray(length)
    fill(memoryview(data))
    return bytes(data)


def fill(view: memoryview) -> None:
    """Read from the worker straight into memory of ours."""
    while view:
        count = os.readv(REQUESTS, [view])
        if count == 0:
            raise SystemExit("the worker is gone")
        view = view[count:]


def send(header: bytes, body: memoryview) -> None:
    """One answer frame."""
    parts = [memoryview(header), body]
    while parts:
        count = os.writev(ANSWERS, parts)
        while parts and count >= len(parts[0]):
            count -= len(parts.pop(0))
        if parts:
            parts[0] = parts[0][count:]


def settle(settings: dict[str, Any]) -> dict[str, Any]:
    """Make this process the zygote that the worker asked for; returns what the worker checks."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if settings["drop_to"] is not None:
        uid, gid = settings["drop_to"]
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if settings["landlock"]:
        restrict_files(settings["readable"])
    for which, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, MAX_DESCRIPTORS)):
        resource.setrlimit(which, (value, value))
    versions, missing = {}, {}
    for name in settings["preload"]:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a broken library is reported, whatever it raises
            missing[name] = f"{type(error).__name__}: {error}"
        else:
            if name not in sys.stdlib_module_names and hasattr(module, "__version__") and "." not in name:
                versions[name] = str(module.__version__)
    checked(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")
    return {
        "protocol": VERSION,
        "version": sys.version,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "hash_seed": os.environ.get("PYTHONHASHSEED"),
        "hash_randomised": not sys.flags.ignore_environment,
        "pid": os.getpid(),
        "uid": os.getuid(),
        "libraries": versions,
        "missing": missing,
        "environment": sorted(os.environ),
    }


def restrict_files(readable: list[str]) -> None:
    """Landlock: from here on this process and its children read below these paths and nothing else.

    Writing, creating, removing, TCP and, where the kernel knows it, signals and abstract sockets beyond the zygote's
    own children are given up. What Landlock does not cover: names and attributes of files (stat, access).
    """
    abi = checked(libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1), "landlock")
    rights = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)
    attributes = struct.pack("=QQQ", (1 << rights) - 1, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    ruleset = checked(
        libc.syscall(LANDLOCK_CREATE_RULESET, attributes, 24 if abi >= 6 else 16 if abi >= 4 else 8, 0), "landlock"
    )
    for path in readable:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # what cannot be opened here could not be read later either
        allowed = LANDLOCK_READ_FILE | (LANDLOCK_READ_DIR if os.path.isdir(path) else 0)
        rule = struct.pack("=Qi", allowed, descriptor)
        checked(libc.syscall(LANDLOCK_ADD_RULE, ruleset, 1, rule, 0), f"landlock {path}")
        os.close(descriptor)
    checked(libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)


def main() -> None:
    """Handshake, then serve."""
    os.dup2(0, REQUESTS, inheritable=False)
    os.dup2(1, ANSWERS, inheritable=False)
    # opened before Landlock, which grants reading only; at a number of its own, because the child's OUTPUT would
    # otherwise take its place, and everything printed would go there
    os.dup2(os.open(os.devnull, os.O_RDWR), DEVNULL, inheritable=False)
    os.dup2(DEVNULL, 0)
    os.dup2(DEVNULL, 1)
    # what libraries would do in every child (random seeds itself anew, threading renews its locks) takes 40 % of the
    # time of a bare fork, and this process has one thread and seeds its children itself
    os.register_at_fork = lambda **callbacks: None
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    guest = importlib.import_module("guest")  # not by its name in the house: nothing of that is in here
    del sys.path[0]
    magic, length, sequence, *_ = REQUEST.unpack(read_exactly(REQUEST.size))
    if magic != CONFIGURE or length > 2**20:
        raise SystemExit("unknown request")
    settings = json.loads(read_exactly(length))
    hello = settle(settings)
    zygote = Zygote(settings, guest)
    del settings
    os.dup2(DEVNULL, 2)  # until here, standard error told the worker why a zygote did not start
    gc.collect()
    gc.freeze()
    body = json.dumps(hello).encode()
    send(ANSWER.pack(HELLO, len(body), sequence, EXITED, 0, 0.0, 0.0, 0), memoryview(body))
    zygote.serve()


if __name__ == "__main__":
    main()
