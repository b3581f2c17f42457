"""Read what lies outside: password files, other users, /proc, /sys, devices, by links and by ".."."""

import os


def main_solution():
    through = []
    for path in (
        "/etc/shadow",
        "/etc/passwd",
        "/tmp/../etc/shadow",
        "/proc/1/root/etc/shadow",
        "/proc/self/root",
        "/proc/self/environ",
        "/proc/cmdline",
        "/sys/kernel/mm",
        "/home",
        "/var/log",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/sda",
        "/dev/vda",
        "/dev/tty",
        "/dev/ptmx",
        "/dev/fuse",
        "/etc/hostname",
        "/etc/machine-id",
        "/run",
        "/var/run/docker.sock",
        "/dev/shm",
        "/../etc/passwd",
    ):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        through.append(path)
        os.close(descriptor)
    return through
