"""Leave keys in the kernel's keyrings of user, session and thread, and read those of others."""

import ctypes


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    buffer = ctypes.create_string_buffer(64)
    for ring in (-1, -2, -3, -4, -5):
        for name, arguments in {
            "add_key": (248, b"user", b"codeio-attack", b"left", 4, ring),
            "request_key": (249, b"user", b"codeio-attack", None, ring),
            "keyctl search": (250, 10, ring, b"user", b"codeio-attack", 0),
            "keyctl read": (250, 11, ring, buffer, 64),
            "keyctl id": (250, 0, ring, 1),
        }.items():
            if libc.syscall(*arguments) >= 0:
                through.append([name, ring])
    for name, arguments in {
        "join session": (250, 1, None),
        "persistent": (250, 22, -1, -3),
        "invalidate": (250, 21, 1),
    }.items():
        if libc.syscall(*arguments) >= 0:
            through.append(name)
    return through
