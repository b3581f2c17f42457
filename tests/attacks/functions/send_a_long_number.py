"""Send an integer of a million digits, which takes a parser quadratic time."""

import os

ANSWER = b'{"status": "ok", "output": ' + b"7" * 1_000_000 + b"}"


def main_solution():
    answer = ANSWER
    while answer:
        answer = answer[os.write(3, answer) :]
    os._exit(0)
