"""Change where and how the zygote and itself run: pages, nodes, priorities of input and output, deadlines."""

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    attributes = (ctypes.c_uint32 * 14)(56, 6)
    masks = ctypes.create_string_buffer(b"\xff" * 64)
    for target in {os.getppid() or 1, 0}:
        for name, arguments in {
            "migrate_pages": (256, target, 64, masks, masks),
            "move_pages": (279, target, 0, None, None, None, 0),
            "sched_setattr": (314, target, attributes, 0),
            "sched_setparam": (142, target, attributes),
            "sched_setscheduler": (144, target, 1, attributes),
            "sched_setaffinity": (203, target, 8, masks),
            "setpriority": (141, 0, target, 5),
            "ioprio_set": (251, 1, target, 4),
            "process_mrelease": (448, 0, 0),
            "process_madvise": (440, 0, masks, 1, 21, 0),
        }.items():
            if libc.syscall(*arguments) >= 0:
                through.append([name, target])
    return through
