"""Signal the zygote by the calls beside kill: tkill, tgkill, queued signals, process descriptors, groups."""

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    information = (ctypes.c_int * 32)(9, 0, -1)
    for target in {1, 2, os.getppid() or 1}:
        if target == os.getpid():
            continue
        for name, arguments in {
            "tkill": (200, target, 9),
            "tgkill": (234, target, target, 9),
            "tgkill with its abort": (234, target, target, 6),
            "rt_sigqueueinfo": (129, target, 9, information),
            "rt_tgsigqueueinfo": (297, target, target, 9, information),
            "pidfd_open": (434, target, 0),
            "hang up its group": (62, -target if target > 1 else target, 1),
            "ioprio_set": (251, 1, target, 3 << 13),
        }.items():
            if libc.syscall(*arguments) >= 0:
                through.append([name, target])
    return through
