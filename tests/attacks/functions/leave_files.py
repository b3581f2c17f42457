"""Leave files, folders, links, pipes and shared memory where the next sample would find them."""

# ruff: noqa: B023 (each function is called at once)

import ctypes
import os


def main_solution():
    through = []
    for folder in ("/tmp", "/dev/shm", "/", "/dev", ".", os.path.dirname(os.__file__), "/var/tmp", "/run"):
        path = os.path.join(folder, "codeio-attack")
        for name, way in {
            "write": lambda: os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL),
            "mkdir": lambda: os.mkdir(path + "-d"),
            "symlink": lambda: os.symlink("/etc/passwd", path + "-l"),
            "link": lambda: os.link(os.__file__, path + "-h"),
            "fifo": lambda: os.mkfifo(path + "-p"),
            "rename": lambda: os.rename(os.__file__, path + "-r"),
            "append": lambda: os.open(os.__file__, os.O_WRONLY | os.O_APPEND),
            "truncate": lambda: os.truncate(os.__file__, 0),
            "remove": lambda: os.unlink(os.__file__),
            "times": lambda: os.utime(folder),
            "mode": lambda: os.chmod(folder, 0o777),
        }.items():
            try:
                way()
                through.append([name, folder])
            except OSError:
                pass
    libc = ctypes.CDLL(None)
    for name, number, arguments in (
        ("shmget", 29, (1, 4096, 0o1777)),
        ("msgget", 68, (1, 0o1777)),
        ("semget", 64, (1, 1, 0o1777)),
        ("memfd", 319, (b"x", 0)),
        ("mq_open", 240, (b"x", 0o102, 0o777, 0)),
        ("keyctl", 248, (b"user", b"x", b"y", 1, -4)),
    ):
        if libc.syscall(number, *arguments) >= 0:
            through.append(name)
    return through
