"""Take file descriptors, CPU time and processors away from the zygote (prlimit, affinity, priority)."""

# ruff: noqa: B023 (each function is called at once)

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    for target in {1, os.getppid()} - {os.getpid(), 0}:
        for resource in range(16):
            if libc.prlimit(target, resource, (ctypes.c_ulong * 2)(0, 0), None) == 0:
                through.append(["prlimit", target, resource])
        for name, call in {
            "affinity": lambda: os.sched_setaffinity(target, {0}),
            "scheduler": lambda: os.sched_setscheduler(target, os.SCHED_IDLE, os.sched_param(0)),
            "priority": lambda: os.setpriority(os.PRIO_PROCESS, target, 19),
        }.items():
            try:
                call()
                through.append([name, target])
            except OSError:
                pass
    return through
