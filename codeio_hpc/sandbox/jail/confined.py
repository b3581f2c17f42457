"""Becomes a compiler that may read the system's files, write to one folder, and nothing else, without namespaces.

Run as a program, for the isolation levels below nsjail. Standard library only, and ``inside/confine.py`` by its path.

Arguments: settings as JSON, then the command.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def _confine() -> ModuleType:
    path = Path(__file__).parents[1] / "inside" / "confine.py"
    spec = importlib.util.spec_from_file_location("confine", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    become(json.loads(sys.argv[1]), sys.argv[2:])
