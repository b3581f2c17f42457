"""Change what the kernel remembers of the process: dumpable, subreaper, filter, memory map, time slack, securebits."""

import ctypes


def main_solution():
    libc = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(128)
    operations = {
        "PDEATHSIG": (1, 0),
        "DUMPABLE": (4, 1),
        "UNALIGN": (6, 1),
        "KEEPCAPS": (8, 1),
        "FPEMU": (10, 1),
        "TIMING": (14, 0),
        "ENDIAN": (20, 0),
        "SECCOMP": (22, 2, buffer),
        "CAPBSET_DROP": (24, 0),
        "TSC": (26, 2),
        "SECUREBITS": (28, 0),
        "TIMERSLACK": (29, 1),
        "MCE_KILL": (33, 1, 1),
        "SET_MM": (35, 8, buffer),
        "CHILD_SUBREAPER": (36, 1),
        "NO_NEW_PRIVS": (38, 1),
        "THP_DISABLE": (41, 1),
        "SPECULATION": (53, 0, 2),
        "IO_FLUSHER": (57, 1),
        "USER_DISPATCH": (59, 1, 0, 0, buffer),
        "PTRACER": (0x59616D61, -1),
        "MDWE": (65, 1),
    }
    through = []
    for name, (operation, *arguments) in operations.items():
        if libc.prctl(operation, *arguments, *[0] * (4 - len(arguments))) >= 0:
            through.append(name)
    if libc.syscall(317, 1, 0, buffer) >= 0:
        through.append("another filter")
    return through
