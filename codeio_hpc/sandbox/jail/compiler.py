"""Compilers, confined: source code nobody has read goes in, a program or the compiler's complaints come out.

A compiler forks, executes and writes files, so it gets a jail of its own each time: a folder that it may write to, the
system's programs and headers, nothing else. What a compiler is fed cannot call anything by itself; the walls are for
``#include "/home/..."``, for sources that make it run or grow for ever, and for a compiler with a flaw.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.jail.confined import NOT_CONFINED
from codeio_hpc.sandbox.jail.nsjail import (
    NOBODY,
    NsjailUnavailableError,
    compiler_configuration,
    find_nsjail,
    give_away,
    runs_as_nobody,
    textproto,
)
from codeio_hpc.sandbox.jail.protocol import JailLostError
from codeio_hpc.sandbox.jail.readable import INSIDE, interpreter, library_path, readable
from codeio_hpc.sandbox.jail.scratch import ScratchFolder
from codeio_hpc.sandbox.jail.start import staged
from codeio_hpc.sandbox.languages.language import Language
from codeio_hpc.sandbox.policy import Level, Limits

CONFINED = Path(__file__).with_name("confined.py")

_SYSTEM = (
    *(
        "/bin",
        "/lib",
        "/lib64",
        "/usr/bin",
        "/usr/lib",
        "/usr/lib64",
        "/usr/libexec",
        "/usr/include",
        "/usr/local/include",
    ),
    *("/etc/ld.so.cache", "/etc/alternatives"),
)
_MESSAGE_BYTES = 2**16
_OUT_OF_WALL_TIME = -1
NSJAIL_LOG = "nsjail.log"
_LEAST_FREE_BYTES = 2**22
"""Containers have 64 MiB for temporary files, and a compilation takes a few of them."""


class NoCompilerError(UserError):
    """This host has no compiler for the language."""


class CompilationError(Exception):
    """The compiler refused the source, or did not come to an end; with its words."""

    def __init__(self, words: str, stopped: bool = False) -> None:
        super().__init__(words)
        self.stopped = stopped
        """At its limits: trying again costs as much again."""


def compile_program(
    language: Language,
    source: str,
    files: Mapping[str, str],
    level: Level,
    nsjail: str | None = None,
    patient: bool = False,
) -> bytes:
    """The native program that the source makes, by the first of the language's standards that takes it.

    Args:
        files: further files beside the source, by name.
        patient: with three times as much wall time.

    Raises:
        CompilationError: with what the compiler said under the first standard.
        JailLostError: the compiler was not started, or not left alone; says nothing about the source.
        NoCompilerError: it is not installed.
        UserError: no isolation for it.
    """
    compiler = shutil.which(language.compiler)
    if compiler is None:
        raise NoCompilerError(
            f"language {language.name}: no {language.compiler} on PATH",
            "its programs have to be compiled",
            f"install {language.compiler} (Debian and the container recipe: g++), or load its module",
        )
    if level == "seccomp":
        raise UserError(
            "compiling at isolation level seccomp",
            "a filter of system calls alone cannot keep a compiler to its own files",
            "use nsjail or landlock+seccomp, or none",
        )
    limits = language.limits.patient() if patient else language.limits
    refusal = CompilationError("")
    for place, standard in enumerate(language.standards):
        words = [compiler, standard, *language.options, language.source]
        try:
            return _compile(words, {**files, language.source: source}, level, limits, nsjail)
        except CompilationError as error:
            refusal = error if place == 0 else refusal
            if error.stopped:
                break
        except (OSError, NsjailUnavailableError) as error:
            raise JailLostError(f"the compiler could not be started: {error}") from None
    raise refusal


def _compile(words: list[str], files: Mapping[str, str], level: Level, limits: Limits, nsjail: str | None) -> bytes:
    with ScratchFolder() as scratch, tempfile.TemporaryFile() as messages:
        folder = os.path.join(scratch.path, "work")
        os.mkdir(folder, 0o700)
        for name, text in files.items():
            Path(folder, name).write_bytes(text.encode("utf-8", "replace"))
        command = _confined(level, words, folder, limits, nsjail)
        # the way to the folder may be closed to the user as whom the compiler runs
        command = staged(command, level, [scratch.path, str(CONFINED), str(INSIDE), *readable()])
        code = _run(command, folder, messages.fileno(), limits)
        if code == 0:
            return _program(folder, limits)
        messages.seek(0)
        said = messages.read(_MESSAGE_BYTES).decode("utf-8", "replace").replace(folder + os.sep, "").strip()
        if code == NOT_CONFINED:
            raise JailLostError(f"the compiler was not started: {said[-300:]}")
        if problem := _outside_problem(scratch.path, code):
            raise JailLostError(problem)
        stopped = not said or "Killed" in said
        raise CompilationError(said or f"ended with exit code {code}, or was stopped at its limits", stopped)


def _outside_problem(scratch: str, code: int) -> str | None:
    """What had nothing to do with the source. The compiler's own words are not asked: the source can choose them."""
    if code == _OUT_OF_WALL_TIME:
        return "the compiler ran out of wall time"
    if shutil.disk_usage(scratch).free < _LEAST_FREE_BYTES:
        return "the folder for temporary files is full"
    log = Path(scratch, NSJAIL_LOG)
    if log.exists() and (lines := log.read_text(encoding="utf-8", errors="replace").strip()):
        return f"nsjail: {lines[-300:]}"
    return None


def _confined(level: Level, words: list[str], folder: str, limits: Limits, nsjail: str | None) -> list[str]:
    visible = [path for path in (*_SYSTEM, *_installation(words[0]), *library_path()) if os.path.exists(path)]
    environment = {"PATH": f"{os.path.dirname(words[0])}:/usr/bin:/bin", "TMPDIR": folder, "LC_ALL": "C.UTF-8"}
    if library_path():
        environment["LD_LIBRARY_PATH"] = ":".join(library_path())
    if level != "none":
        os.chmod(os.path.dirname(folder), 0o711)
        for path in (folder, *(entry.path for entry in os.scandir(folder))):
            give_away(path)
    if level == "nsjail":
        scratch = Path(folder).parent
        fields = compiler_configuration(visible, folder, environment, limits, str(scratch / NSJAIL_LOG))
        config = scratch / "nsjail.cfg"
        config.write_text(textproto(fields), encoding="utf-8")
        return _watched(None, [find_nsjail(nsjail), "--config", str(config), "--", *words])
    settings = {
        "readable": [*visible, "/dev/null"] if level != "none" else None,
        "folder": folder,
        "drop_to": NOBODY if runs_as_nobody() and level != "none" else None,
        "cpu_seconds": int(limits.cpu_seconds),
        "memory_bytes": limits.memory_bytes,
        "file_bytes": 16 * limits.output_bytes,
        "environment": environment,
    }
    return _watched(settings, words)


def _installation(compiler: str) -> list[str]:
    """Where a compiler of a module system, or of a user's own, keeps its parts; never the whole of what it lies in,
    which may be somebody's home."""
    program = os.path.realpath(compiler)
    prefix = os.path.dirname(os.path.dirname(program))
    parts = [os.path.join(prefix, name) for name in ("bin", "lib", "lib64", "libexec", "include")]
    return [*parts, *(path for path in {compiler, program} if os.path.dirname(path) not in parts)]


def _watched(settings: Mapping[str, object] | None, command: list[str]) -> list[str]:
    return [interpreter(), "-I", "-S", str(CONFINED), json.dumps(settings), *command]


def _run(command: list[str], folder: str, messages: int, limits: Limits) -> int:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=messages, stderr=messages, cwd=folder, start_new_session=True
    )
    assert process.stdin  # never written to: that it closes tells that this worker is gone
    try:
        return process.wait(limits.wall)
    except subprocess.TimeoutExpired:
        return _OUT_OF_WALL_TIME
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
        process.stdin.close()


def _program(folder: str, limits: Limits) -> bytes:
    """The program, which something untrusted has written."""
    try:
        descriptor = os.open(os.path.join(folder, "program"), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise CompilationError(f"the compiler left no program: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limits.output_bytes:
            raise CompilationError(f"the program is larger than {limits.output_bytes} bytes, or no file")
        return file.read(limits.output_bytes)
