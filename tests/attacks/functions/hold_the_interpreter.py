"""Compute in one call that never lets the interpreter look at a signal."""


def main_solution():
    return len(str(7 ** (7**12)))
