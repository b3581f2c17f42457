"""For root only: opens the way to an interpreter that lies in a closed folder, in a private mount namespace.

A jail runs as an unprivileged user, who may not pass through, say, root's home. Run as a program, before nsjail or the
zygote: each closed folder on the way is covered by an empty one in which only the paths that the jail reads are bound.
Nothing outside this process and its children sees that. Standard library only; runs on the host, before any sample.

Arguments: a JSON list of paths that must be reachable, then the command to become.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import sys

CLONE_NEWNS = 0x20000  # sched.h
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18  # sys/mount.h


def closed_folder(path: str) -> str | None:
    """The topmost folder on the way to ``path`` that others may not enter."""
    parts = os.path.abspath(path).split(os.sep)[1:-1]
    way = ""
    for part in parts:
        way += os.sep + part
        if os.path.isdir(way) and not os.stat(way).st_mode & stat.S_IXOTH:
            return way
    return None


def open_way(paths: list[str]) -> None:
    """Cover every closed folder and bind the paths below it again."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
        texts = [text.encode() if text is not None else None for text in (source, target, kind)]
        if libc.mount(*texts, ctypes.c_ulong(flags), data.encode() if data else None) < 0:
            raise SystemExit(f"cannot mount {target}: {os.strerror(ctypes.get_errno())}")

    if libc.unshare(CLONE_NEWNS) < 0:
        raise SystemExit(f"no private mount namespace: {os.strerror(ctypes.get_errno())}")
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    groups: dict[str, list[str]] = {}
    for path in paths:
        if folder := closed_folder(path):
            groups.setdefault(folder, []).append(path)
    for folder, wanted in groups.items():
        sources = [(path, os.open(path, os.O_PATH)) for path in wanted]
        mount("tmpfs", folder, "tmpfs", 0, "mode=755,size=1m")
        for path, descriptor in sources:
            through = f"/proc/self/fd/{descriptor}"
            if stat.S_ISDIR(os.stat(through).st_mode):
                os.makedirs(path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
            mount(through, path, None, MS_BIND)
            os.close(descriptor)


if __name__ == "__main__":
    open_way(json.loads(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
