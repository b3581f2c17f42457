"""End the main thread alone, so that the process looks dead while another thread goes on."""

import ctypes
import threading


def spin():
    while True:
        pass


def main_solution():
    threading.Thread(target=spin).start()
    ctypes.CDLL(None).syscall(60, 0)
