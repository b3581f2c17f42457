"""Start threads with the smallest of stacks, so that memory does not end them."""

import threading

ENOUGH = 300


def main_solution():
    threading.stack_size(32768)
    forever = threading.Event()
    started = 0
    try:
        while started < ENOUGH:
            threading.Thread(target=forever.wait, daemon=True).start()
            started += 1
    except (RuntimeError, MemoryError):
        pass
    return [started] if started >= ENOUGH else []
