"""`codeio doctor sandbox`: what each isolation level needs, whether this host gives it, and why not."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.launch.doctor.finding import Finding
from codeio_hpc.launch.doctor.isolation import landlock, sandbox_findings, user_namespaces
from codeio_hpc.sandbox import Pool, ProgramRequest, ProgramTest, probe

_COVERS = {
    "nsjail": "proved: namespaces, a root of its own, no network, a filter of system calls",
    "landlock+seccomp": "proved: no files, no sockets, no processes; names and sizes of host files can be seen",
    "seccomp": "proved, but samples can read what you can read; only where it is asked for",
    "none": "limits of time and output alone; only where it is asked for, and marked in every result",
}
_REMEDIES = {
    "landlock+seccomp": "Linux 5.13 or newer with landlock among its lsm=",
    "seccomp": "a kernel with CONFIG_SECCOMP_FILTER, on x86-64 or aarch64",
}

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2  # linux/prctl.h, linux/seccomp.h

_PROGRAM = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a * b; }\n"


def sandbox_check(minimum: str) -> list[Finding]:
    """The sandbox of this host. ``minimum``: the weakest isolation that data tasks accept."""
    probed = probe()
    isolation, binary = sandbox_findings(probed, minimum)
    return [
        isolation,
        *level_findings(probed),
        binary,
        user_namespaces(),
        landlock(),
        seccomp(),
        kernel(probed["kernel"]),
        memory_files(),
        compiled_programs(probed["best"]),
    ]


def level_findings(probed: Mapping[str, Any]) -> Iterator[Finding]:
    """Each level, whether it is needed here or not."""
    for level, facts in probed["levels"].items():
        if facts["available"]:
            yield Finding(f"level {level}", _COVERS[level])
        else:
            fix = _REMEDIES.get(level, "see the lines nsjail and user namespaces below")
            yield Finding(f"level {level}", facts["why_not"], "warn", fix)


def seccomp() -> Finding:
    """Does the kernel take filters of system calls? Asked with no filter at all, so that none is set."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None, 0, 0)
    return seccomp_finding(ctypes.get_errno())


def seccomp_finding(error: int) -> Finding:
    """What the kernel's answer means: it has looked for the filter (EFAULT), or does not know of filters."""
    if error == errno.EFAULT:
        return Finding("seccomp", "filters can be set")
    fix = "a kernel with CONFIG_SECCOMP_FILTER; without it no level works"
    return Finding("seccomp", os.strerror(error), "warn", fix)


def kernel(release: str) -> Finding:
    """Is it new enough? Before 5.8 setns(2) takes no pidfd, and each execution needs a process in between."""
    words = release.replace("-", ".").split(".")
    version = (int(words[0]), int(words[1]))
    if version >= (5, 8):
        return Finding("kernel", release)
    fix = "Linux 5.8 or newer makes each execution cheaper by a process; landlock+seccomp needs 5.13"
    return Finding("kernel", release, "warn", fix)


def memory_files(setting: Path = Path("/proc/sys/vm/memfd_noexec")) -> Finding:
    """May a file in memory be executed? Compiled programs are (sysctl vm.memfd_noexec, Linux 6.3)."""
    try:
        value = setting.read_text(encoding="ascii").strip()
    except OSError:
        return Finding("memory files", "may be executed (no vm.memfd_noexec here)")
    if value == "2":
        fix = "an administrator: sysctl vm.memfd_noexec=1; only compiled programs need it"
        return Finding("memory files", "may not be executed: vm.memfd_noexec is 2", "warn", fix)
    return Finding("memory files", f"may be executed (vm.memfd_noexec is {value})")


def compiled_programs(level: str | None) -> Finding:
    """Is there a compiler, and does what it makes run in a jail?"""
    path = shutil.which("g++")
    if path is None:
        fix = "install g++, or load its module; the container image has it. Only C++ programs need it"
        return Finding("g++", "not on PATH", "warn", fix)
    name = f"{_compiler_version(path)}, {path}"
    if level in (None, "seccomp", "none"):
        fix = "compiling needs nsjail or landlock+seccomp"
        return Finding("g++", f"{name}; not tried: no isolation that can hold a compiler", "warn", fix)
    problem = _problem_with_a_program(level)
    if problem is None:
        return Finding("g++", f"{name}; a program was compiled and run at level {level}")
    fix = "C++ programs cannot be judged here; docs/sandbox.md says what they need"
    return Finding("g++", f"{name}; {problem}", "fail", fix)


def _compiler_version(path: str) -> str:
    try:
        done = subprocess.run([path, "-dumpfullversion"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout.strip() or f"exit code {done.returncode}"


def _problem_with_a_program(level: str | None) -> str | None:
    try:
        with Pool(level=level) as pool:
            result = pool.run_program(ProgramRequest("doctor", _PROGRAM, [ProgramTest("6 7", "42")], language="cpp"))
    except UserError as error:
        return f"{error.found}: {error.why}"
    if result.compile_error:
        return f"the compiler refuses a plain program: {result.compile_error.splitlines()[0]}"
    [test] = result.results
    return None if test.verdict == "ok" and test.correct else f"a plain program ends as {test.verdict}: {test.error}"
