"""Learn the host's name and domain."""

import ctypes
import os
import socket


def main_solution():
    found = [] if os.uname().nodename == "jail" else [os.uname().nodename]
    libc = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(256)
    if libc.gethostname(buffer, 256) == 0 and buffer.value != b"jail":
        found.append(buffer.value.decode())
    for call in (lambda: socket.getaddrinfo("localhost", 80), lambda: socket.gethostbyname("example.org")):
        try:
            found.append(str(call()))
        except OSError:
            continue
    return found
