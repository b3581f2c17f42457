"""Look for the worker's environment: in the variables, and in the memory above the stack where the kernel puts them."""

import ctypes
import os
import re


def main_solution():
    libc = ctypes.CDLL(None)
    mark = re.compile(b"WORKER[-]SECRET[-]MARK")
    found = [name for name, value in os.environb.items() if mark.search(value)]
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
    first = ctypes.cast(environ, ctypes.POINTER(ctypes.c_void_p))[0]
    reading, writing = os.pipe()
    pages = 0
    for page in range((first & ~4095) - (1 << 20), (first & ~4095) + (1 << 20), 4096):
        if libc.write(writing, ctypes.c_void_p(page), 4096) == 4096:
            pages += 1
            found += ["memory"] * len(mark.findall(os.read(reading, 4096)))
    return found if pages else ["nothing read"]
