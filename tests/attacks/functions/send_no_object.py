"""Send a bare value where an object is expected."""

import os

ANSWER = b'["ok", ["forged"]]'


def main_solution():
    answer = ANSWER
    while answer:
        answer = answer[os.write(3, answer) :]
    os._exit(0)
