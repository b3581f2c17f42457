"""Send statuses that only the worker may give: infrastructure, timeout, correct."""

import os

ANSWER = b'{"status": "infrastructure", "verdict": "ok", "correct": true, "output": ["forged"]}'


def main_solution():
    answer = ANSWER
    while answer:
        answer = answer[os.write(3, answer) :]
    os._exit(0)
