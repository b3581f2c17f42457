"""Find other processes, by every call that answers differently for a number that is in use."""

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    found = []
    own = {0, os.getpid()}
    for process in {*range(1, 400), *range(max(2, os.getpid() - 200), os.getpid()), os.getppid() or 1} - own:
        for name, call in {
            "getpgid": lambda process=process: libc.getpgid(process),
            "getsid": lambda process=process: libc.getsid(process),
            "sched_getscheduler": lambda process=process: libc.sched_getscheduler(process),
            "kill": lambda process=process: libc.kill(process, 0),
            "getpriority": lambda process=process: libc.syscall(140, 0, process),
            "pidfd_open": lambda process=process: libc.syscall(434, process, 0),
            "ioprio_get": lambda process=process: libc.syscall(252, 1, process),
        }.items():
            if call() >= 0:
                found.append([name, process])
    return found
