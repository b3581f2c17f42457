"""Leave a process behind in a session of its own, by every way to fork."""

import ctypes
import os
import subprocess
import sys


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    ways = {
        "fork": os.fork,
        "forkpty": lambda: os.forkpty()[0],
        "libc fork": libc.fork,
        "clone": lambda: libc.syscall(56, 17, 0, 0, 0, 0),
        "fork call": lambda: libc.syscall(57),
        "vfork call": lambda: libc.syscall(58),
        "clone3": lambda: libc.syscall(435, (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17), 88),
        "spawn": lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", "while True: pass"], {}),
        "subprocess": lambda: subprocess.Popen([sys.executable, "-c", "while True: pass"]).pid,
    }
    for name, way in ways.items():
        try:
            pid = way()
        except OSError:
            continue
        if pid == 0:
            while True:
                pass
        if pid > 0:
            through.append(name)
    return through
