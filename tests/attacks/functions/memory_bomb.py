"""Take all memory, by Python objects and by mappings."""

import mmap


def main_solution():
    kept = []
    try:
        while True:
            kept.append(bytearray(64 << 20))
    except MemoryError:
        pass
    while True:
        kept.append(mmap.mmap(-1, 1 << 20))
