"""Send an answer in which each key stands twice, the second time with another value."""

import os

ANSWER = b'{"status": "exception", "status": "ok", "output": 1, "output": ["forged"]}'


def main_solution():
    answer = ANSWER
    while answer:
        answer = answer[os.write(3, answer) :]
    os._exit(0)
