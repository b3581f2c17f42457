"""Send arrays nested so deep that a recursive parser runs out of stack."""

import os

ANSWER = b'{"status": "ok", "output": ' + b"[" * 500_000 + b"]" * 500_000 + b"}"


def main_solution():
    answer = ANSWER
    while answer:
        answer = answer[os.write(3, answer) :]
    os._exit(0)
