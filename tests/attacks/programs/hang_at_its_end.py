"""End, but with a thread and an exit handler that never do."""

import atexit
import threading


def spin():
    while True:
        pass


threading.Thread(target=spin).start()
atexit.register(spin)
