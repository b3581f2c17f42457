"""Send bytes that are no UTF-8 inside a string."""

import os

ANSWER = b'{"status": "ok", "output": ["\xff\xfe\xed\xa0\x80"]}'


def main_solution():
    answer = ANSWER
    while answer:
        answer = answer[os.write(3, answer) :]
    os._exit(0)
