"""Scan the memory that it shares with the zygote for the sample that ran before it."""

import ctypes
import mmap
import os
import re

PAGE = 4096


def main_solution():
    libc = ctypes.CDLL(None)
    mark = re.compile(b"PREVIOUS[-]SAMPLE[-]MARK")  # the pattern is not the mark, so it does not find itself
    reading, writing = os.pipe()
    mapping = mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE)
    heap, mapped = id(object()), ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    found = pages = 0
    for anchor, reach in ((heap, 12 << 20), (mapped, 48 << 20)):
        start = (anchor & ~(PAGE - 1)) - reach
        for address in range(start, start + 2 * reach, PAGE):
            # the kernel reads for us: an address without memory gives an error instead of a crash
            if libc.write(writing, ctypes.c_void_p(address), PAGE) == PAGE:
                pages += 1
                found += len(mark.findall(os.read(reading, PAGE)))
    assert pages > 1000, "the scan sees the memory"
    return ["found"] if found else []
