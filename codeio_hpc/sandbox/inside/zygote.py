"""Pid 1 of a jail: forks one child for every execution, watches it, reports how it ended.

The files of this folder run inside the jail, and nothing else of the house; they use the standard library only. The
zygote itself never decodes a request: it copies the bytes into a private mapping that the child inherits, and empties
the mapping afterwards, so that the next child finds no trace of the sample before it.

Three kinds of children: one that calls a function and sends a document (``guest.py``); a Python program
(``program.py``); and a native program, which is loaded into a sealed memory file and executed from there.
"""

from __future__ import annotations

import _thread
import errno
import fcntl
import gc
import importlib
import json
import mmap
import os
import resource
import signal
import struct
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from codeio_hpc.sandbox.inside import confine, guest, program
from codeio_hpc.sandbox.inside.confine import (
    ANSWERS,
    DEVNULL,
    LOADED,
    MAX_DESCRIPTORS,
    OUTPUT,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    REQUESTS,
    Confinement,
    Steps,
    checked,
    libc,
    restrict_files,
)
from codeio_hpc.sandbox.inside.forks import Child, Forks
from codeio_hpc.sandbox.inside.watch import (
    ANSWER_TOO_LARGE,
    EXITED,
    NOT_STARTED,
    OUT_OF_CPU_TIME,
    SIGNALLED,
    Sink,
    Tail,
    private_memory,
    watch,
)

VERSION = 2
REQUEST = struct.Struct("<4sIIQddQQQ")
ANSWER = struct.Struct("<4sIIIQBiddQ")
CONFIGURE, RUN, PROGRAM, LOAD, NATIVE, HELLO, END = b"CCFG", b"CRUN", b"CPRG", b"CLOD", b"CNAT", b"CHEL", b"CEND"
"""As in ``protocol.py``; the handshake fails if they differ."""

CHUNK_BYTES = 2**20
"""Standard input is taken in such pieces."""
MESSAGE_BYTES = 2**16
"""Of what a program writes to standard error, the last part is kept."""

MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL, MFD_EXEC = 1, 2, 8, 0x10  # linux/memfd.h
F_ADD_SEALS, ALL_SEALS = 1033, 0xF  # linux/fcntl.h

THREAD_STACK_BYTES = 8 * 2**20
"""Threads of Python code would each take address space for as large a stack as the first one's."""

Ended = tuple[int, int, float, float, int]
"""Ending, exit code or signal, CPU seconds, wall seconds, largest resident bytes."""


class Zygote:
    """The state between two runs: descriptors, buffers and the prepared filter. No request is ever kept in it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.confinement = Confinement(settings)
        self.request = private_memory(settings["max_request_bytes"] + CHUNK_BYTES)
        self.max_stdin_bytes = settings["max_stdin_bytes"]
        self.confined = mmap.mmap(-1, mmap.PAGESIZE)
        """Shared with the child, until that has given everything up and unmaps it: its first byte tells that it has."""
        self.document, self.printed, self.messages = Sink(), Sink(), Tail()
        self.forks = Forks(settings["pid_namespace"], settings["pidfd"])

    def serve(self) -> None:
        """Answer requests until the worker closes its end."""
        while True:
            header = REQUEST.unpack(read_exactly(REQUEST.size))
            magic, length, given, sequence, cpu, wall, memory, most, most_printed = header
            most_given = 0 if magic == RUN else self.max_stdin_bytes
            known = magic in (RUN, PROGRAM, LOAD, NATIVE)
            if not known or length > len(self.request) - CHUNK_BYTES or given > most_given:
                raise SystemExit("unknown request")
            fill(memoryview(self.request)[:length])
            file = self.receive(length, given, magic == LOAD) if magic != RUN else DEVNULL
            sinks = []
            ended: Ended = (NOT_STARTED, 0, 0.0, 0.0, 0)
            if magic == LOAD:
                ended = load(file)
            elif file >= 0:
                ended = self.run(magic, length, file, cpu, wall, memory, most, most_printed)
                sinks = [self.document, self.printed, self.messages]
            contents = [sink.content for sink in sinks] or [memoryview(b"")] * 3
            send(ANSWER.pack(END, *map(len, contents), sequence, *ended), *contents)
            del contents
            for sink in sinks:
                sink.forget()
            self.request.madvise(mmap.MADV_DONTNEED)
            fcntl.fcntl(DEVNULL, fcntl.F_SETFL, 0)  # shared by all children, and the last one may have set flags on it

    def receive(self, length: int, size: int, executable: bool) -> int:
        """What follows a request of ``length`` bytes, as a sealed memory file that is read from its beginning; -1 if
        there can be none. A program finds its input in a file, as judges give it: it may ask for its size, map it into
        memory, or read all of it at once, and a pipe allows none of that."""
        file = memory_file(executable)
        while size:
            chunk = memoryview(self.request)[length : length + min(size, CHUNK_BYTES)]
            fill(chunk)
            size -= len(chunk)
            try:
                while chunk and file >= 0:
                    chunk = chunk[os.write(file, chunk) :]
            except OSError:
                os.close(file)
                file = -1
        if file >= 0:
            fcntl.fcntl(file, F_ADD_SEALS, ALL_SEALS)
            os.lseek(file, 0, os.SEEK_SET)
        return file

    def run(
        self, magic: bytes, length: int, file: int, cpu: float, wall: float, memory: int, most: int, most_printed: int
    ) -> Ended:
        """Fork, watch, reap."""
        start = time.monotonic()
        outputs = [(self.document, most)] if magic != NATIVE else []
        if magic != RUN:
            outputs = [(self.printed, most_printed), (self.messages, MESSAGE_BYTES), *outputs]
        sinks, descriptors = [], [file] if magic != RUN else [DEVNULL] * 3
        for sink, room in outputs:
            sinks.append(sink)
            descriptors.append(sink.open(room))
        passed = [*descriptors, LOADED] if magic == NATIVE else descriptors
        steps = self.confinement.steps(passed, cpu, memory)
        try:
            child = self.forks.start()
        except OSError:
            child = None
        if child and not child.pid:
            self.be_the_child(magic, length, steps, len(passed), most)
        for descriptor in descriptors:
            if descriptor != DEVNULL:
                os.close(descriptor)
        try:
            if child is None:
                return NOT_STARTED, 0, 0.0, 0.0, 0
            ended = self.reap(child, sinks, start, wall, cpu)
            if not self.confined[0]:
                return NOT_STARTED, 0, 0.0, 0.0, 0
            self.confined[0] = 0
            return ended
        finally:
            for sink in sinks:
                sink.close()

    def reap(self, child: Child, sinks: list[Sink], start: float, wall: float, cpu: float) -> Ended:
        """Watch a child to its end, which comes by itself or by SIGKILL."""
        ending = watch(child, sinks, start + wall, cpu)
        if ending is not None:
            with suppress(ProcessLookupError):  # a process in between may just have reaped it
                os.kill(child.pid, signal.SIGKILL)
        status, used, resident = self.forks.reap(child)
        too_large = ending == ANSWER_TOO_LARGE
        for sink in sinks:
            if ending is None:
                sink.drain()
            too_large = too_large or sink.overflowed
        code = os.waitstatus_to_exitcode(status)
        if too_large:
            ending = ANSWER_TOO_LARGE
            for sink in sinks:
                sink.size = 0
        elif ending is None:
            ending = EXITED if code >= 0 else SIGNALLED
            if code in (-signal.SIGXCPU, -signal.SIGKILL) and used >= cpu:
                ending = OUT_OF_CPU_TIME
        return ending, abs(code), used, time.monotonic() - start, resident

    def be_the_child(self, magic: bytes, length: int, steps: Steps, descriptors: int, most: int) -> NoReturn:
        """Give everything up, then run the sample. Never returns."""
        leave = os._exit  # the sample may put something else in its place
        try:
            self.confinement.confine(steps, self.forks.parent)
            task = bytes(memoryview(self.request)[:length])
            if magic == NATIVE:
                for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
                    signal.signal(number, signal.SIG_DFL)
                os.set_inheritable(descriptors - 1, False)
                arguments, environment = task.split(b"\0"), {"LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/tmp"}
                self.confined[0] = 1  # the program has no such memory
                try:
                    os.execve(descriptors - 1, arguments, environment)
                finally:
                    self.confined[0] = 0
            self.confined[0] = 1
            self.confined.close()
            if magic == PROGRAM:
                program.run(task, OUTPUT)
            guest.run(task, OUTPUT, most)
        finally:
            leave(70)


def memory_file(executable: bool) -> int:
    """A new one, empty and not yet sealed; -1 if there can be none."""
    for flag in (MFD_EXEC if executable else MFD_NOEXEC_SEAL, 0):  # kernels before 6.3 do not know the flags
        try:
            return os.memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING | flag)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the host forbids it, and without the flag nothing could be executed
                break
    return -1


def load(file: int) -> Ended:
    """Put a native program where the children execute it, in place of the one before it."""
    if file < 0:
        return NOT_STARTED, 0, 0.0, 0.0, 0
    os.dup2(file, LOADED, inheritable=False)
    os.close(file)
    return EXITED, 0, 0.0, 0.0, 0


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


def send(header: bytes, *bodies: memoryview) -> None:
    """One answer frame."""
    parts = [memoryview(header), *bodies]
    while parts:
        count = os.writev(ANSWERS, parts)
        while parts and count >= len(parts[0]):
            count -= len(parts.pop(0))
        if parts:
            parts[0] = parts[0][count:]


def settle(settings: dict[str, Any]) -> dict[str, Any]:
    """Make this process the zygote that the worker asked for; returns what the worker checks."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if settings["drop_to"] is not None:
        uid, gid = settings["drop_to"]
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if settings["landlock"]:
        restrict_files(settings["readable"], settings["execute"])
    stack = settings["stack_bytes"]
    limits = ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, MAX_DESCRIPTORS), (resource.RLIMIT_STACK, stack))
    for which, value in limits:
        resource.setrlimit(which, (value, value))
    _thread.stack_size(THREAD_STACK_BYTES)
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


def main() -> None:
    """Handshake, then serve."""
    os.dup2(0, REQUESTS, inheritable=False)
    os.dup2(1, ANSWERS, inheritable=False)
    # opened before Landlock, which grants reading only; at a number of its own, because a child's OUTPUT would
    # otherwise take its place, and everything printed would go there
    os.dup2(os.open(os.devnull, os.O_RDWR), DEVNULL, inheritable=False)
    os.dup2(DEVNULL, 0)
    os.dup2(DEVNULL, 1)
    magic, length, _, sequence, *_ = REQUEST.unpack(read_exactly(REQUEST.size))
    if magic != CONFIGURE or length > 2**20:
        raise SystemExit("unknown request")
    settings = json.loads(read_exactly(length))
    hello = settle(settings)
    zygote = Zygote(settings)
    del settings
    os.dup2(DEVNULL, 2)  # until here, standard error told the worker why a zygote did not start
    guest.rehearse()
    confine.rehearse()
    gc.collect()
    gc.freeze()
    body = json.dumps(hello).encode()
    send(ANSWER.pack(HELLO, len(body), 0, 0, sequence, EXITED, 0, 0.0, 0.0, 0), memoryview(body))
    zygote.serve()
