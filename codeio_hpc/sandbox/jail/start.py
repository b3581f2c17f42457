"""One running jail: how it is started at each isolation level, and how it is spoken to."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from codeio_hpc.sandbox.jail import bpf, protocol
from codeio_hpc.sandbox.jail.namespaces import why_no_namespaces
from codeio_hpc.sandbox.jail.nsjail import (
    NOBODY,
    NsjailUnavailableError,
    configuration,
    find_nsjail,
    nobody_is_missing,
    runs_as_nobody,
    stack_bytes,
    textproto,
)
from codeio_hpc.sandbox.jail.readable import DEVICES, INSIDE, interpreter, library_path, readable
from codeio_hpc.sandbox.jail.staging import closed_folder
from codeio_hpc.sandbox.jail.syscalls import NUMBERS
from codeio_hpc.sandbox.policy import MAX_REQUEST_BYTES, MAX_STDIN_BYTES, PRELOADED, Kind, Level, Limits

STAGING = Path(__file__).with_name("staging.py")

START_SECONDS = 120.0
"""A jail whose libraries come from a cold, busy file system may take this long."""

GRACE_SECONDS = 20.0
"""How much longer than its wall limit a run may take to be answered before its jail is given up."""


class JailUnavailableError(Exception):
    """This isolation level cannot be had here; says why."""


@dataclass
class Jail:
    """A zygote and the pipes to it. Use from one thread at a time."""

    level: Level
    kind: Kind
    process: subprocess.Popen[bytes]
    channel: protocol.Channel
    hello: dict[str, Any] = field(default_factory=dict)
    runs: int = 0
    _loaded: bytes = b""

    def run(
        self, body: bytes, limits: Limits, document_bytes: int, mode: bytes = protocol.RUN, stdin: bytes = b""
    ) -> protocol.Answer:
        """Execute one request in a child of its own.

        Args:
            document_bytes: most that the child may send beside its standard output.
            mode: ``protocol.RUN``, ``PROGRAM`` or ``NATIVE``.

        Raises:
            JailLostError: the jail is gone; says nothing about the code.
        """
        self.runs += 1
        printed = 0 if mode == protocol.RUN else limits.output_bytes
        bounds = protocol.Bounds(limits.cpu_seconds, limits.wall, limits.memory_bytes, document_bytes, printed)
        return self.channel.exchange(mode, body, bounds, limits.wall + GRACE_SECONDS, stdin)

    def load(self, program: bytes) -> None:
        """Hand over a native program, unless it is the one that the jail has.

        Raises:
            JailLostError: the jail is gone, or cannot hold the program.
        """
        digest = hashlib.sha256(program).digest()
        if digest == self._loaded:
            return
        answer = self.channel.exchange(protocol.LOAD, b"", stdin=program)
        if answer.ending is not protocol.Ending.EXITED:
            raise protocol.JailLostError("no memory file for the program (vm.memfd_noexec, or out of memory)")
        self._loaded = digest

    def close(self) -> None:
        """End the jail and everything in it."""
        self.channel.close()
        self.process.kill()
        self.process.wait()


def start_jail(level: Level, kind: Kind, hash_seed: int = 0, nsjail: str | None = None, folder: str = "") -> Jail:
    """Start a jail and shake hands with its zygote.

    Args:
        folder: of the worker's, that it can read too.

    Raises:
        JailUnavailableError: the level cannot be had on this host; with the reason.
    """
    if level != "none" and nobody_is_missing():
        raise JailUnavailableError("root in a user namespace that has no other user for samples: be an ordinary user")
    paths = [*readable(), *([folder] if folder else [])]
    environment = _environment(hash_seed)
    program = [interpreter(), "-s", "-P", "-B", str(INSIDE / "main.py")]
    with tempfile.TemporaryFile() as messages, tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        command = program
        if level == "nsjail":
            command = _nsjail_command(config, program, paths, environment, nsjail)
        process, channel = _spawn(staged(command, level, [*paths, config.name]), environment, messages)
        try:
            hello = _shake_hands(channel, level, kind, paths)
            _check(hello, hash_seed)
        except (protocol.JailLostError, JailUnavailableError) as error:
            channel.close()
            process.kill()
            code = process.wait()
            reason = why_no_namespaces() if level == "nsjail" else None
            raise JailUnavailableError(reason or f"{error}{_last_words(messages, code)}") from None
        except BaseException:
            channel.close()
            process.kill()
            process.wait()
            raise
    return Jail(level, kind, process, channel, hello)


def _environment(hash_seed: int) -> dict[str, str]:
    variables = {
        "PYTHONHASHSEED": str(hash_seed),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "HOME": "/tmp",
        "PATH": "/usr/bin",
    }
    # one thread each: several samples share a node, and sums keep their order
    variables |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    return variables | ({"LD_LIBRARY_PATH": ":".join(library_path())} if library_path() else {})


def _nsjail_command(
    config: IO[str],
    program: list[str],
    paths: list[str],
    environment: dict[str, str],
    setting: str | None,
) -> list[str]:
    try:
        binary = find_nsjail(setting)
    except NsjailUnavailableError as error:
        raise JailUnavailableError(str(error)) from None
    config.write(textproto(configuration(paths, environment)))
    config.flush()
    return [binary, "--config", config.name, "--", *program]


def staged(command: list[str], level: Level, paths: list[str]) -> list[str]:
    """As root, go through ``staging.py`` where an unprivileged user could not reach the interpreter."""
    wanted = [*paths, command[0]]
    if level == "none" or not runs_as_nobody() or not any(closed_folder(path) for path in wanted):
        return command
    return [interpreter(), "-I", "-S", str(STAGING), json.dumps(wanted), *command]


def _spawn(
    command: list[str], environment: dict[str, str], messages: IO[bytes]
) -> tuple[subprocess.Popen[bytes], protocol.Channel]:
    """Start the command with its two pipes; the worker's ends are closed at exec in any other process."""
    jail_reads, to_jail = os.pipe()
    from_jail, jail_writes = os.pipe()
    try:
        process = subprocess.Popen(
            command,
            stdin=jail_reads,
            stdout=jail_writes,
            stderr=messages,
            env=environment,
            cwd="/",
            start_new_session=True,  # a Ctrl-C is the worker's business, not the jail's
        )
    except OSError as error:
        os.close(to_jail)
        os.close(from_jail)
        raise JailUnavailableError(f"cannot start {command[0]}: {error.strerror}") from None
    finally:
        os.close(jail_reads)
        os.close(jail_writes)
    return process, protocol.Channel(to_jail, from_jail)


def _shake_hands(channel: protocol.Channel, level: Level, kind: Kind, paths: list[str]) -> dict[str, Any]:
    machine = platform.machine()
    filtered = level != "none"
    if filtered and machine not in NUMBERS:
        raise JailUnavailableError(f"no system call table for {machine}")
    native = kind == "native"
    program = bpf.build(machine, bpf.NATIVE if native else bpf.PYTHON) if filtered else None
    namespaced = level == "nsjail"
    settings = {
        "pid_namespace": namespaced,
        "pidfd": _kernel() >= (5, 8),  # setns(2) takes one from then on
        # counted by user namespace from Linux 5.14 on; without a namespace it would count the user's other processes
        "max_threads": 256 if namespaced and _kernel() >= (5, 14) else None,
        "stack_bytes": stack_bytes(),
        "max_request_bytes": MAX_REQUEST_BYTES,
        "max_stdin_bytes": MAX_STDIN_BYTES,
        "filter": program.packed().hex() if program else "",
        "pid_offsets": program.pid_offsets() if program else [],
        "drop_to": [NOBODY, NOBODY] if filtered and not namespaced and runs_as_nobody() else None,
        "landlock": level == "landlock+seccomp",
        "readable": [*paths, *DEVICES],
        "execute": native,
        "preload": list(PRELOADED[kind]),
    }
    answer = channel.exchange(protocol.CONFIGURE, json.dumps(settings).encode(), deadline_seconds=START_SECONDS)
    hello: dict[str, Any] = json.loads(answer.body)  # written before any sample ran
    return hello


def _check(hello: dict[str, Any], hash_seed: int) -> None:
    """The interpreter inside must be this one: without /proc an ``$ORIGIN`` rpath can pick another libpython."""
    expected = {
        "protocol": protocol.VERSION,
        "version": sys.version,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "hash_seed": str(hash_seed),
        "hash_randomised": True,
        "libraries": {name: _installed(name) or found for name, found in hello["libraries"].items()},
    }
    for name, value in expected.items():
        if hello[name] != value:
            raise JailUnavailableError(f"{name} inside is {hello[name]!r}, not {value!r}")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _kernel() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)) or 0)


def _last_words(messages: IO[bytes], code: int) -> str:
    """What nsjail or the zygote printed before it ended."""
    messages.seek(0)
    lines = [line for line in messages.read(2**16).decode("utf-8", "replace").splitlines() if line.strip()]
    return ": " + " | ".join(lines[-3:])[:600] if lines else f" (exit code {code})"
