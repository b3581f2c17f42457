"""Change owners, modes, times, flags and extended attributes of files it can open."""

import ctypes
import fcntl
import os


def main_solution():
    through = []
    libc = ctypes.CDLL(None)
    for path in (os.__file__, os.path.dirname(os.__file__), "/tmp", "/dev/null", "/"):
        descriptor = os.open(path, os.O_PATH)
        ways = {
            "chmod": lambda path=path: os.chmod(path, 0o777),
            "chown": lambda path=path: os.chown(path, os.getuid(), os.getgid()),
            "chown to nobody else": lambda path=path: os.lchown(path, -1, -1),
            "utime": lambda path=path: os.utime(path, (0, 0)),
            "setxattr": lambda path=path: os.setxattr(path, "user.codeio", b"x"),
            "removexattr": lambda path=path: os.removexattr(path, "user.codeio"),
            "flags": lambda path=path: fcntl.ioctl(os.open(path, os.O_RDONLY), 0x40086602, b"\x10\0\0\0\0\0\0\0"),
        }
        for name, way in ways.items():
            try:
                way()
                through.append([name, path])
            except OSError:
                continue
        for name, arguments in {
            "fchmod": (91, descriptor, 0o777),
            "fchown": (93, descriptor, os.getuid(), os.getgid()),
            "fchmodat2": (452, descriptor, b"", 0o777, 0x1000),
            "utimensat": (280, descriptor, None, None, 0),
            "setxattrat": (463, descriptor, b"", 0x1000, b"user.x", None, 0),
        }.items():
            if libc.syscall(*arguments) >= 0:
                through.append([name, path])
        os.close(descriptor)
    return through
