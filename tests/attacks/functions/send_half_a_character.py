"""Send half of a surrogate pair as an escape, which no UTF-8 file can hold."""

import os

ANSWER = b'{"status": "ok", "output": ["\\ud800"]}'


def main_solution():
    answer = ANSWER
    while answer:
        answer = answer[os.write(3, answer) :]
    os._exit(0)
