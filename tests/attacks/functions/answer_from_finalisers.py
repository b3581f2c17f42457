"""Send another answer from finalisers and exit handlers that run when the result has been taken."""

import atexit
import os
import sys
import weakref


class Last:
    def __del__(self):
        os.write(3, b'{"status": "ok", "output": ["late"]}')


def main_solution():
    kept = Last()
    atexit.register(os.write, 3, b"{}")
    weakref.finalize(kept, os.write, 3, b"{}")
    sys.excepthook = lambda *_: os.write(3, b"{}")
    return ["returned"]
