"""Which paths of the host a jail can read: the interpreter, its libraries, and nothing else."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path

INSIDE = Path(__file__).parents[1] / "inside"
"""The only files of ours that run inside."""

_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def interpreter() -> str:
    """The running interpreter, by the path under which it finds its virtual environment."""
    return sys.executable


def library_path() -> list[str]:
    """Folders of ``LD_LIBRARY_PATH``: clusters' module systems put the interpreter's own libraries there."""
    return [part for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if os.path.isabs(part)]


def readable() -> list[str]:
    """Existing paths, parents before what lies in them; a path inside another one is left out."""
    wanted = [*_SYSTEM, *library_path(), *_executables(), str(INSIDE)]
    wanted += [os.path.join(sys.prefix, "pyvenv.cfg"), sysconfig.get_config_var("LIBDIR") or ""]
    wanted += [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    wanted += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    existing = sorted({os.path.abspath(path) for path in wanted if path and os.path.exists(path)})
    kept: list[str] = []
    for path in existing:
        if not any(path.startswith(parent + os.sep) for parent in kept):
            kept.append(path)
    return kept


def _executables() -> list[str]:
    """The interpreter and every link on the way to the real file."""
    chain: list[str] = []
    path = interpreter()
    while path not in chain and len(chain) < 20:
        chain.append(path)
        if os.path.islink(path):
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    return chain
