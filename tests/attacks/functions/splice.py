"""Move pages between pipes and files without copying, the road of "dirty pipe"."""

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    reading, writing = os.pipe()
    second, other = os.pipe()
    os.write(writing, b"x" * 100)
    file = os.open(os.__file__, os.O_RDONLY)
    page = ctypes.create_string_buffer(4096)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(page), 4096)
    for name, call in {
        "splice": lambda: libc.splice(file, None, writing, None, 1, 0),
        "splice to a file": lambda: libc.splice(reading, None, file, None, 1, 0),
        "tee": lambda: libc.tee(reading, other, 1, 0),
        "vmsplice": lambda: libc.vmsplice(writing, vector, 1, 8),
        "sendfile": lambda: libc.sendfile(writing, file, None, 1),
        "copy_file_range": lambda: libc.syscall(326, file, None, file, None, 1, 0),
        "F_SETPIPE_SZ": lambda: libc.fcntl(second, 1031, 1 << 20),
        "readahead": lambda: libc.syscall(187, file, 0, 4096),
    }.items():
        if call() >= 0:
            through.append(name)
    return through
