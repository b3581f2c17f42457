"""Runs a program as if the administrator had forbidden user namespaces, in one that was still made before.

The limit ``user.max_user_namespaces`` belongs to each user namespace; within a new one it can be set to 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_BECOME = """
import ctypes, os, sys
if ctypes.CDLL(None).unshare(0x10000000):  # CLONE_NEWUSER
    raise SystemExit("no user namespace could be made for this test")
print("made", flush=True)
sys.stdin.readline()  # until the users are mapped
with open("/proc/sys/user/max_user_namespaces", "w") as file:
    file.write("0")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def python_without_namespaces(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS`` where no namespace can be made: for root as on such a host, else for this user alone."""
    command = [sys.executable, "-c", _BECOME, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=cwd) as process:
        assert process.stdin and process.stdout
        if process.stdout.readline() == "made\n":
            _map_users(Path("/proc") / str(process.pid))
        output, errors = process.communicate("\n", timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _map_users(folder: Path) -> None:
    """root keeps all users and may become each; others have themselves."""
    if os.geteuid() == 0:
        users = groups = "0 0 65536"
    else:
        users, groups = (f"{number} {number} 1" for number in (os.geteuid(), os.getegid()))
        (folder / "setgroups").write_text("deny", encoding="ascii")
    (folder / "uid_map").write_text(users, encoding="ascii")
    (folder / "gid_map").write_text(groups, encoding="ascii")
