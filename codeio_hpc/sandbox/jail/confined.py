"""Starts a compiler, and ends it and whatever it started when the worker is gone.

Run as a program. At the isolation levels below nsjail it also confines the compiler, without namespaces: that may read
the system's files, write to one folder, and nothing else. Standard library only, and ``inside/confine.py`` by its path.

Arguments: settings as JSON (null where nsjail confines), then the command. Standard input is a pipe that the worker
keeps open.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import select
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

NOT_CONFINED = 125
"""Exit code where this program fails itself; no compiler ends with it."""
_LOOK_MS = 20


def _confine() -> ModuleType:
    path = Path(__file__).parents[1] / "inside" / "confine.py"
    spec = importlib.util.spec_from_file_location("confine", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stand_by() -> None:
    """Returns in a child; the parent ends as the child does, or with all of its group when the worker is gone."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        return
    poll = select.poll()
    poll.register(0, 0)
    ended, status = os.waitpid(pid, os.WNOHANG)
    while not ended:
        if poll.poll(_LOOK_MS):
            os.killpg(0, signal.SIGKILL)
        ended, status = os.waitpid(pid, os.WNOHANG)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def become(settings: dict[str, Any], command: list[str]) -> None:
    """Give up what the settings name, then execute the command in the folder."""
    confine = _confine()
    os.chdir(settings["folder"])
    if settings["drop_to"] is not None:
        os.setgroups([])
        os.setresgid(*[settings["drop_to"]] * 3)
        os.setresuid(*[settings["drop_to"]] * 3)
    for which, value in (
        (resource.RLIMIT_CPU, settings["cpu_seconds"]),
        (resource.RLIMIT_AS, settings["memory_bytes"]),
        (resource.RLIMIT_FSIZE, settings["file_bytes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (value, value))
    confine.checked(confine.libc.prctl(confine.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if settings["readable"] is not None:
        confine.restrict_files(settings["readable"], execute=True, writable=settings["folder"])
    os.execve(command[0], command, settings["environment"])


if __name__ == "__main__":
    stand_by()
    try:
        if settings := json.loads(sys.argv[1]):
            become(settings, sys.argv[2:])
        os.execv(sys.argv[2], sys.argv[2:])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not the compiler's
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(NOT_CONFINED)
