"""File systems: where the run folder, scratch and caches lie, and whether they keep what publishing relies on."""

from __future__ import annotations

from pathlib import Path

SHARED = frozenset(["nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph-fuse", "cifs", "panfs", "wekafs"])
"""File systems (names in /proc/mounts) that several nodes mount."""


def filesystem(path: Path, mounts: str | None = None) -> str | None:
    """The kind of file system that ``path`` is on, as in /proc/mounts; None if there is no such path."""
    if not path.exists():
        return None
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "unknown"
    resolved, best = str(path.resolve()), ("", "unknown")
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]
