"""Send another answer from a timer's handler, while the right one is being written."""

import os
import signal


def main_solution():
    write = os.write
    signal.signal(signal.SIGALRM, lambda *_: write(3, b'{"status": "ok", "output": ["late"]}'))
    signal.setitimer(signal.ITIMER_REAL, 0.00005, 0.00005)
    return ["returned"] * 20000
