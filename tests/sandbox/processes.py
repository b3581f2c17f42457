"""Processes of this host, as tests look at them."""

from __future__ import annotations

import time


def descendants(pid: int) -> list[int]:
    """Processes below this one; what has just ended is left out."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = [int(word) for word in file.read().split()]
    except OSError:
        return []
    return [*children, *(below for child in children for below in descendants(child))]


def alive(pid: int) -> bool:
    """Whether it runs: one that has ended and is not yet reaped does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def left_after(pids: list[int], seconds: float) -> list[int]:
    """Those that still run after so many seconds; returns as soon as there are none."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left
