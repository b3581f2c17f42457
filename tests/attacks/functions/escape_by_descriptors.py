"""Climb out of every folder it can open, by ".." relative to descriptors, and by links to descriptors."""

import os


def main_solution():
    through = []
    folders = []
    for path in ("/", "/tmp", "/dev", "/usr/lib", "/lib64", os.path.dirname(os.__file__), "."):
        for flags in (os.O_PATH | os.O_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY):
            try:
                folders.append(os.open(path, flags))
            except OSError:
                continue
    for folder in folders:
        for target in (
            *("../" * depth + name for depth in (0, 1, 3, 20) for name in ("etc/passwd", "etc/shadow", "root/.ssh")),
            f"/proc/self/fd/{folder}/../etc/passwd",
            f"/dev/fd/{folder}/../etc/passwd",
        ):
            try:
                os.open(target, os.O_RDONLY, dir_fd=folder)
            except OSError:
                continue
            through.append(target)
    return through
