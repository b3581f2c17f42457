"""Crash the interpreter by a wild write over the memory shared with the zygote at the fork."""

import ctypes


def main_solution():
    ctypes.memset(id(None) & ~0xFFF, 0xFF, 1 << 24)
