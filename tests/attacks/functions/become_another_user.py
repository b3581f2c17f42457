"""Change user, group and capabilities by each call there is: set*id, setfsuid, setgroups, capset, ambient sets."""

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
    for name, call in {
        "setuid": lambda: libc.setuid(0),
        "seteuid": lambda: libc.seteuid(0),
        "setreuid": lambda: libc.setreuid(0, 0),
        "setresuid": lambda: libc.setresuid(0, 0, 0),
        "setgid": lambda: libc.setgid(0),
        "setresgid": lambda: libc.setresgid(0, 0, 0),
        "setgroups": lambda: libc.setgroups(1, (ctypes.c_uint32 * 1)(0)),
        "setsid": lambda: libc.setsid(),
        "setpgid": lambda: libc.setpgid(0, 0),
        "capset": lambda: libc.syscall(126, header, data),
        "ambient capability": lambda: libc.prctl(47, 2, 21, 0, 0),
        "keep capabilities": lambda: libc.prctl(8, 1, 0, 0, 0),
        "secure bits": lambda: libc.prctl(28, 0, 0, 0, 0),
    }.items():
        if call() >= 0:
            through.append(name)
    libc.setfsuid(0)
    if libc.setfsuid(-1) == 0:  # it returns the one before
        through.append("setfsuid")
    through += [name for name, value in (("uid", os.getuid()), ("gid", os.getgid())) if value == 0]
    libc.syscall(125, header, data)
    return through + (["capabilities"] if data[0] | data[1] | data[3] | data[4] else [])
