"""Let the kernel do in the background what the filter forbids: both kinds of asynchronous I/O."""

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    context, parameters = ctypes.c_ulong(), ctypes.create_string_buffer(256)
    for name, arguments in {
        "io_setup": (206, 8, ctypes.byref(context)),
        "io_submit": (209, context, 1, parameters),
        "io_getevents": (208, context, 0, 1, parameters, None),
        "io_pgetevents": (333, context, 0, 1, parameters, None, None),
        "io_uring_setup": (425, 8, parameters),
        "io_uring_enter": (426, 0, 1, 0, 0, None, 0),
        "io_uring_register": (427, 0, 0, parameters, 1),
    }.items():
        if libc.syscall(*arguments) >= 0:
            through.append(name)
    try:
        os.open("/dev/fuse", os.O_RDWR)
        through.append("fuse")
    except OSError:
        pass
    return through
