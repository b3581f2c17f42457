"""Close every descriptor, the one for its own answer too, and return."""

import os


def main_solution():
    os.closerange(0, 4096)
    return ["returned"]
