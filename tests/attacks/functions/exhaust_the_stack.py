"""Recurse until the stack of the C code ends."""

import sys


class Endless:
    def __repr__(self):
        return repr(self)


def main_solution():
    sys.setrecursionlimit(2**31 - 1)

    def deeper(value):
        return sorted([value, value], key=deeper)

    return deeper(repr) or repr(Endless())
