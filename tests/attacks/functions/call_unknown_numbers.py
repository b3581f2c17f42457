"""Call every number that no table of this machine's year knew: what kernels learn later must be refused too."""

import ctypes


def main_solution():
    libc = ctypes.CDLL(None, use_errno=True)
    through = []
    zeros = ctypes.create_string_buffer(4096)
    # 335 and 336 belong to the kernel's own probes: no filter sees them, and they kill whoever calls them
    for number in (*range(450, 1024), *range(337, 424), *range(5000, 5400), 2**30 - 1):
        ctypes.set_errno(0)
        if libc.syscall(number, zeros, zeros, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1:
            through.append([number, ctypes.get_errno()])
    return through
