"""Print without end to every standard stream."""

import sys


def main_solution():
    while True:
        print("x" * 65536)
        print('{"status": "ok", "output": []}', file=sys.stderr, flush=True)
