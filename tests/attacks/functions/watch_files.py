"""Watch what others do with files, by inotify, fanotify, leases and notification signals."""

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    for name, call in {
        "inotify_init": lambda: libc.syscall(253),
        "inotify_init1": lambda: libc.inotify_init1(0),
        "inotify_add_watch": lambda: libc.inotify_add_watch(0, b"/", 0xFFF),
        "fanotify_init": lambda: libc.syscall(300, 0x200, 0),
        "fanotify_mark": lambda: libc.syscall(301, 0, 1, 0x20, -100, b"/"),
        "fanotify by handles": lambda: libc.syscall(300, 0x200 | 0x2000, 0),
    }.items():
        if call() >= 0:
            through.append(name)
    folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)
    file = os.open(os.__file__, os.O_RDONLY)
    for name, descriptor, command, argument in (
        ("F_NOTIFY", folder, 1026, 0x3F),
        ("F_SETLEASE", file, 1024, 0),
        ("F_SETOWN", file, 8, os.getpid()),
    ):
        if libc.fcntl(descriptor, command, argument) >= 0:
            through.append(name)
    return through
