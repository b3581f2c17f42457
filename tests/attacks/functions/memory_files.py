"""Make files in memory, fill them with a program and execute it."""

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    for name, call in {
        "memfd_create": lambda: libc.memfd_create(b"x", 0),
        "memfd_create executable": lambda: libc.memfd_create(b"x", 0x10),
        "memfd_create huge": lambda: libc.memfd_create(b"x", 4),
        "memfd_secret": lambda: libc.syscall(447, 0),
        "shm_open": lambda: libc.shm_open(b"/codeio-attack", 0o102, 0o666),
        "unnamed file": lambda: os.open("/tmp", os.O_TMPFILE | os.O_RDWR),
        "execveat": lambda: libc.syscall(322, 0, b"", None, None, 0x1000),
        "fexecve": lambda: libc.fexecve(os.open(os.__file__, os.O_RDONLY), (ctypes.c_char_p * 1)(), None),
    }.items():
        try:
            if call() >= 0:
                through.append(name)
        except OSError:
            continue
    return through
