"""Send an answer in UTF-16 with a byte order mark, which Python's parser would detect."""

import os

ANSWER = '{"status": "ok", "output": ["forged"]}'.encode("utf-16")


def main_solution():
    answer = ANSWER
    while answer:
        answer = answer[os.write(3, answer) :]
    os._exit(0)
