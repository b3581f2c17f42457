"""Start threads without end."""

import threading
import time


def main_solution():
    started = 0
    while True:
        threading.Thread(target=time.sleep, args=(60,)).start()
        started += 1
