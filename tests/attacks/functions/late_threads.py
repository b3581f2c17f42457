"""Leave threads behind that go on writing results and spinning after the return."""

import os
import threading


def spin():
    while True:
        try:
            os.write(3, b'{"status": "ok", "output": ["late"]}')
        except OSError:
            continue


def main_solution():
    for _ in range(4):
        threading.Thread(target=spin).start()
    return ["returned"]
