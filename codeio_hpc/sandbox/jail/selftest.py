"""Every worker proves its jail before it trusts it: attack probes, a limit, and a right answer afterwards."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping

from codeio_hpc.sandbox.jail.elf import EXIT_CODE, smallest_program
from codeio_hpc.sandbox.jail.protocol import NATIVE, Answer, Ending, JailLostError
from codeio_hpc.sandbox.jail.start import Jail
from codeio_hpc.sandbox.policy import Level, Limits


class JailNotTightError(Exception):
    """A probe got through: this jail must not be used."""


PROBES = '''
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)

def refused(call):
    """True if the call is refused; a C call says so by -1."""
    try:
        return call() == -1
    except OSError:
        return True

def probe(native):
    parent = os.getppid()
    target = parent or 1
    probes = {
        "fork": lambda: os.fork(),
        "vfork by number": lambda: libc.syscall(58) if os.uname().machine == "x86_64" else -1,
        "internet socket": lambda: socket.socket(socket.AF_INET).fileno(),
        "unix socket": lambda: socket.socket(socket.AF_UNIX).fileno(),
        "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).fileno(),
        "write a file": lambda: os.open("/tmp/codeio-probe", os.O_CREAT | os.O_WRONLY),
        "write to the interpreter": lambda: os.open(os.__file__, os.O_WRONLY),
        "make a folder": lambda: os.mkdir("/tmp/codeio-probe"),
        "read the password file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "read the zygote's memory": lambda: os.open(f"/proc/{target}/mem", os.O_RDONLY),
        "signal the zygote": lambda: os.kill(target, 0),
        "stop everything": lambda: os.kill(-1, 0),
        "trace the zygote": lambda: libc.ptrace(16, target, 0, 0),
        "limit the zygote": lambda: libc.prlimit(target, 7, (ctypes.c_ulong * 2)(0, 0), None) if parent else -1,
        "slow the zygote": lambda: os.sched_setaffinity(target, {0}),
        "new user namespace": lambda: libc.unshare(0x10000000),
        "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
        "become root": lambda: libc.setuid(0),
        "memory file": lambda: libc.memfd_create(b"x", 0),
        "shared memory": lambda: libc.shmget(0, 4096, 0o1600),
        "set the clock": lambda: libc.clock_settime(0, (ctypes.c_long * 2)(0, 0)),
    }
    if not native:  # whose children become the program
        probes["execute a program"] = lambda: os.execv(sys.executable, [sys.executable, "-V"])
    return [name for name, call in probes.items() if not refused(call)]
'''

NOT_COVERED: dict[Level, set[str]] = {"seccomp": {"read the password file"}}
"""Probes that a level does not promise to refuse; docs/sandbox.md says so."""

LIMITS = Limits(cpu_seconds=5)
SPIN = "def probe():\n    while True:\n        pass\n"
FLOOD = "def probe():\n    return 'x' * 10000\n"


def prove(jail: Jail, thorough: bool = True) -> None:
    """Run the probes; with ``thorough`` also a CPU limit and an output limit.

    Raises:
        JailNotTightError: one of them got through, named.
        JailLostError: the jail ended, or something outside kept a probe from running.
    """
    if jail.level != "none":
        document = _ask(jail, PROBES, {"native": jail.kind == "native"})
        if document is None or document.get("status") != "ok":
            raise JailNotTightError(f"the attack probes did not finish: {document}")
        through = document["output"]
        if not isinstance(through, list) or set(map(str, through)) - NOT_COVERED.get(jail.level, set()):
            raise JailNotTightError(f"not refused: {through}")
    if thorough:
        answer = _run(jail, SPIN, Limits(cpu_seconds=0.05), 2**16)
        if answer.ending is not Ending.OUT_OF_CPU_TIME:
            raise JailNotTightError(f"an endless loop ended as {answer.ending.name}")
        flood = _run(jail, FLOOD, LIMITS, 1000)
        if flood.ending is not Ending.ANSWER_TOO_LARGE:
            raise JailNotTightError(f"too long an answer ended as {flood.ending.name}")
    if jail.kind == "native":
        jail.load(smallest_program(platform.machine()))
        answer = _undisturbed(jail.run(b"program", LIMITS, 0, NATIVE))
        if answer.ending is not Ending.EXITED or answer.code != EXIT_CODE:
            ended = f"{answer.ending.name} with {answer.code}"
            raise JailNotTightError(
                f"a native program ended as {ended}; are memory files executable (vm.memfd_noexec)?"
            )
    document = _ask(jail, "def probe():\n    return [6 * 7]\n")
    if document != {"status": "ok", "output": [42]}:
        raise JailNotTightError(f"a plain function answered {document}")


def _run(jail: Jail, code: str, limits: Limits, most: int, given: Mapping[str, bool] | None = None) -> Answer:
    task: dict[str, object] = {"kind": "call", "code": code, "entry_point": "probe", "input": json.dumps(given or {})}
    task |= {"seed": "0", "output_bytes": 2**16, "non_finite": False}
    return _undisturbed(jail.run(json.dumps(task).encode(), limits, most))


def _undisturbed(answer: Answer) -> Answer:
    if answer.foul_play:  # says nothing about the jail's walls
        raise JailLostError(f"during its self-test {answer.foul_play}")
    return answer


def _ask(jail: Jail, code: str, given: Mapping[str, bool] | None = None) -> dict[str, object] | None:
    answer = _run(jail, code, LIMITS, 2**16, given)
    if answer.ending is not Ending.EXITED or answer.code != 0:
        return None
    document: dict[str, object] = json.loads(answer.body)
    return document
