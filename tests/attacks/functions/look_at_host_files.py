"""Learn which files the host has, without opening them: stat, access, readlink, statfs, handles of paths."""

import os


def main_solution():
    found = []
    for path in (
        "/etc/passwd",
        "/etc/shadow",
        "/etc/hostname",
        "/home",
        "/var",
        "/boot",
        "/proc",
        "/sys",
        "/bin/sh",
        "/opt",
    ):
        for name, call in {
            "stat": os.lstat,
            "access": lambda path: os.access(path, os.F_OK) or os.stat(path),
            "statvfs": os.statvfs,
            "O_PATH": lambda path: os.open(path, os.O_PATH),
            "chdir": os.chdir,
        }.items():
            try:
                call(path)
                found.append([name, path])
            except OSError:
                continue
    return found
