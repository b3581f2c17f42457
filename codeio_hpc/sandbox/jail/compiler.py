"""Compilers, confined: source code nobody has read goes in, a program or the compiler's complaints come out.

A compiler forks, executes and writes files, so it gets a jail of its own each time: a folder that it may write to, the
system's programs and headers, nothing else. What a compiler is fed cannot call anything by itself; the walls are for
``#include "/home/..."``, for sources that make it run or grow for ever, and for a compiler with a flaw.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.jail.nsjail import (
    NOBODY,
    compiler_configuration,
    find_nsjail,
    give_away,
    runs_as_nobody,
    textproto,
)
from codeio_hpc.sandbox.jail.protocol import JailLostError
from codeio_hpc.sandbox.jail.readable import DEVICES, interpreter, library_path
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
_NSJAIL_FAILED = re.compile(r"\[[EF]\]\[\d{4}-")
"""How nsjail says that it could not start the compiler."""


class NoCompilerError(UserError):
    """This host has no compiler for the language."""


class CompilationError(Exception):
    """The compiler refused the source, or did not come to an end; with its words."""


def compile_program(
    language: Language, source: str, files: Mapping[str, str], level: Level, nsjail: str | None = None
) -> bytes:
    """The native program that the source makes.

    Args:
        files: further files beside the source, by name.

    Raises:
        CompilationError: with what the compiler said.
        JailLostError: the compiler was not started; says nothing about the source.
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
    with tempfile.TemporaryDirectory(prefix="codeio-compile-") as parent, tempfile.TemporaryFile() as messages:
        folder = os.path.join(parent, "work")
        os.mkdir(folder, 0o700)
        for name, text in {**files, language.source: source}.items():
            if name != os.path.basename(name) or name in ("", ".", ".."):
                raise UserError(f"file {name!r}", "files lie beside the source", "give a name without folders")
            Path(folder, name).write_bytes(text.encode("utf-8", "replace"))
        words = [compiler, *language.options, language.source]
        with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
            command = _confined(level, words, folder, language.limits, nsjail, config.name)
            code = _run(command, folder, messages.fileno(), language.limits)
        if code == 0:
            return _program(folder, language.limits)
        messages.seek(0)
        said = messages.read(_MESSAGE_BYTES).decode("utf-8", "replace").replace(folder + os.sep, "").strip()
        if _NSJAIL_FAILED.match(said):
            raise JailLostError(said[:300])
        raise CompilationError(said or f"{language.compiler} ended with exit code {code}, or was stopped at its limits")


def _confined(
    level: Level, words: list[str], folder: str, limits: Limits, nsjail: str | None, config: str
) -> list[str]:
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(words[0])))
    readable = [path for path in (*_SYSTEM, *library_path()) if os.path.exists(path)]
    if not any(os.path.realpath(words[0]).startswith(path + os.sep) for path in readable):
        readable.append(prefix)  # a compiler of a module system
    environment = {"PATH": f"{os.path.dirname(words[0])}:/usr/bin:/bin", "TMPDIR": folder, "LC_ALL": "C.UTF-8"}
    if library_path():
        environment["LD_LIBRARY_PATH"] = ":".join(library_path())
    if level != "none":
        os.chmod(os.path.dirname(folder), 0o711)
        for path in (folder, *(entry.path for entry in os.scandir(folder))):
            give_away(path)
    if level == "nsjail":
        fields = compiler_configuration(readable, folder, environment, limits)
        Path(config).write_text(textproto(fields), encoding="utf-8")
        return _watched(None, [find_nsjail(nsjail), "--config", config, "--", *words])
    if level == "seccomp":
        raise UserError(
            "compiling at isolation level seccomp",
            "a filter of system calls alone cannot keep a compiler to its own files",
            "use nsjail or landlock+seccomp, or none",
        )
    settings = {
        "readable": [*readable, *DEVICES] if level != "none" else None,
        "folder": folder,
        "drop_to": NOBODY if runs_as_nobody() and level != "none" else None,
        "cpu_seconds": int(limits.cpu_seconds),
        "memory_bytes": limits.memory_bytes,
        "file_bytes": 16 * limits.output_bytes,
        "environment": environment,
    }
    return _watched(settings, words)


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
        return -1
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
