"""Write to files that are only read, through shared mappings, made writable at once or later."""

import ctypes
import mmap
import os

READ, WRITE = mmap.PROT_READ, mmap.PROT_WRITE


def main_solution():
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    failed = ctypes.c_void_p(-1).value
    through = []
    for path in (os.__file__, ctypes.__file__, os.__file__.replace("os.py", "json/__init__.py"), "/etc/ld.so.cache"):
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        if libc.mmap(None, 4096, READ | WRITE, mmap.MAP_SHARED, file, 0) != failed:
            through.append(["mapped writable", path])
        address = libc.mmap(None, 4096, READ, mmap.MAP_SHARED, file, 0)
        if address != failed:
            if libc.mprotect(ctypes.c_void_p(address), 4096, READ | WRITE) == 0:
                through.append(["made writable", path])
            if libc.syscall(216, ctypes.c_void_p(address), 4096, 0, 0, 0) == 0:
                through.append(["remap_file_pages", path])
        for name, call in {
            "write": lambda file=file: libc.write(file, b"x", 1),
            "pwrite": lambda file=file: libc.pwrite(file, b"x", 1, 0),
            "ftruncate": lambda file=file: libc.ftruncate(file, 0),
            "fallocate": lambda file=file: libc.fallocate(file, 3, 0, 4096),
        }.items():
            if call() >= 0:
                through.append([name, path])
        os.close(file)
    return through
