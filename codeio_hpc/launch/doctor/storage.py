"""File systems: where the run folder, scratch and caches lie, and whether they keep what publishing relies on."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from codeio_hpc.launch.doctor.finding import Finding

SHARED = frozenset(["nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph-fuse", "cifs", "panfs", "wekafs"])
"""File systems (names in /proc/mounts) that several nodes mount."""

_LEAST_BYTES, _FEW_BYTES = 2**30, 50 * 2**30
_LEAST_INODES, _FEW_INODES = 1_000, 100_000
"""The larger is what one full-scale run may take, or what some sites give a home folder."""
_LEAST_SCRATCH = 10 * 2**30
"""Compile caches of one model, and the staging of a container."""
_SLOW_SECONDS = 1.0


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


def publishing(folder: Path) -> Finding:
    """Do renaming, exclusive creation and syncing work here? Tried with what publishes shards, then taken away."""
    from codeio_hpc.tables.files import publish_file, publish_folder

    if not folder.is_dir():
        fix = "put runs on a file system that all nodes share: --run DIR"
        return Finding("run folder", f"{folder}: not a folder on this host", "fail", fix)
    place = folder / f".doctor-{os.uname().nodename}-{os.getpid()}"
    start = time.monotonic()
    try:
        publish_file(place / "staging" / "file", b"1")
        publish_file(place / "staging" / "file", b"2")
        if _takes_twice(place / "staging" / "file"):
            fix = "two owners of one shard could both publish it here: put runs on another file system"
            return Finding("run folder", f"{folder}: an exclusive name is given twice", "fail", fix)
        links = _has_links(place / "staging" / "file")
        publish_folder(place / "staging", place / "final")
        whole = (place / "final" / "file").read_bytes() == b"2"
    except OSError as error:
        fix = "runs need a file system with rename, hard links and fsync, where you may write"
        return Finding("run folder", f"{folder}: {error.strerror}", "fail", fix)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    seconds = time.monotonic() - start
    value = f"{folder} on {filesystem(folder)}: rename, link, fsync in {seconds:.2f} s"
    if not whole:
        return Finding("run folder", f"{folder}: what was renamed reads otherwise", "fail", "use another file system")
    if not links:
        fix = "two owners of one shard may both publish it (the same bytes): another file system, if there is one"
        return Finding("run folder", f"{folder} on {filesystem(folder)}: no hard links", "warn", fix)
    if seconds > _SLOW_SECONDS:
        return Finding("run folder", value, "warn", "slow: fewer and larger shards (collect.files_per_shard) help")
    return Finding("run folder", value)


def _takes_twice(path: Path) -> bool:
    from codeio_hpc.tables.files import publish_file

    try:
        publish_file(path, b"3", exclusive=True)
    except FileExistsError:
        return False
    return True


def _has_links(path: Path) -> bool:
    """Where there are none, publishing looks whether the name exists and then renames: exclusive only one by one."""
    try:
        os.link(path, path.with_name("link"))
    except OSError:
        return False
    return True


def space(folder: Path) -> list[Finding]:
    """Bytes and inodes that are left to this user; quotas are not seen here."""
    try:
        facts = os.statvfs(folder)
    except OSError as error:
        value = f"{folder}: {error.strerror}"
        return [Finding("bytes left", value, "skipped"), Finding("inodes left", value, "skipped")]
    total = facts.f_files
    return [
        bytes_left(facts.f_bavail * facts.f_frsize),
        Finding("inodes left", "not counted here") if not total else inodes_left(facts.f_favail),
    ]


def bytes_left(number: int) -> Finding:
    """Is there room for a run?"""
    value = f"{number / 2**30:,.0f} GiB (a quota may be lower)"
    if number < _LEAST_BYTES:
        return Finding("bytes left", value, "fail", "make room, or put runs elsewhere: --run DIR")
    if number < _FEW_BYTES:
        return Finding("bytes left", value, "warn", "a full-scale run takes more; checkpoints most of all")
    return Finding("bytes left", value)


def inodes_left(number: int) -> Finding:
    """Is there room for a run's files? A shard takes at most three."""
    value = f"{number:,} (a quota may be lower)"
    if number < _LEAST_INODES:
        return Finding("inodes left", value, "fail", "remove small files, or put runs elsewhere: --run DIR")
    if number < _FEW_INODES:
        return Finding("inodes left", value, "warn", "raise collect.files_per_shard: fewer shards, fewer files")
    return Finding("inodes left", value)


def scratch_of(environ: Mapping[str, str]) -> Path:
    """The folder for caches: that of the site's environment lines if they have been run, else $TMPDIR or /tmp."""
    given = environ.get("CODEIO_SCRATCH")
    return Path(given).parent if given else Path(environ.get("TMPDIR") or "/tmp")


def scratch(folder: Path) -> list[Finding]:
    """Is node-local scratch large, really local, and may programs run from it? Compiled kernels do."""
    kind = filesystem(folder)
    if kind is None:
        fix = "scratch: in the site file names a folder that is not here; leave it out for $TMPDIR, else /tmp"
        return [
            Finding("scratch", f"{folder}: not there", "fail", fix),
            Finding("scratch exec", "no scratch", "skipped"),
        ]
    free = shutil.disk_usage(folder).free
    value = f"{folder} on {kind}, {free / 2**30:,.0f} GiB free"
    if kind in SHARED:
        fix = "compile caches and locks misbehave on shared file systems: scratch: a folder on the node's own disk"
        where = Finding("scratch", value, "fail", fix)
    elif kind == "tmpfs":
        where = Finding("scratch", value, "warn", "it lies in memory and counts as the job's: ask for more, or a disk")
    elif free < _LEAST_SCRATCH:
        where = Finding("scratch", value, "warn", "compile caches of one model may take more: a larger disk, if any")
    else:
        where = Finding("scratch", value)
    return [where, _scratch_exec(folder)]


def _scratch_exec(folder: Path) -> Finding:
    program = folder / f".doctor-{os.uname().nodename}-{os.getpid()}.sh"
    try:
        program.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        program.chmod(0o700)
        subprocess.run([program], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        fix = "compiled kernels are loaded from there; it is mounted noexec, or closed: name another scratch:"
        return Finding("scratch exec", f"{folder}: {getattr(error, 'strerror', None) or error}", "fail", fix)
    finally:
        program.unlink(missing_ok=True)
    return Finding("scratch exec", "programs run from it")
