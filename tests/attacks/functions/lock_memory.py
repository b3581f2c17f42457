"""Lock memory, so that the node cannot reclaim it, and ask for huge or foreign pages."""

import ctypes
import mmap


def main_solution():
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    failed = ctypes.c_void_p(-1).value
    through = []
    size = 8 << 20
    memory = mmap.mmap(-1, size)
    address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    for name, call in {
        "mlock": lambda: libc.mlock(address, size),
        "mlock2": lambda: libc.syscall(325, address, size, 1),
        "mlockall": lambda: libc.mlockall(3),
        "poison": lambda: libc.madvise(address, 4096, 100),
        "mbind": lambda: libc.syscall(237, address, size, 1, None, 0, 0),
        "set_mempolicy": lambda: libc.syscall(238, 1, None, 0),
    }.items():
        if call() >= 0:
            through.append(name)
    for name, flags in {"MAP_LOCKED": 0x2000, "MAP_HUGETLB": 0x40000}.items():
        if libc.mmap(None, size, 3, flags | 0x22, -1, 0) != failed:
            through.append(name)
    return through
