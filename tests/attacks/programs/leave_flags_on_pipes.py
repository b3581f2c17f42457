"""Leave flags on its pipes that would make the other ends fail: not blocking, packets, direct."""

import ctypes
import fcntl
import os

libc = ctypes.CDLL(None)
for descriptor in range(4):
    libc.fcntl(descriptor, fcntl.F_SETFL, os.O_NONBLOCK | os.O_DIRECT | os.O_APPEND)
    libc.ioctl(descriptor, 0x5421, ctypes.byref(ctypes.c_int(1)))
    libc.shutdown(descriptor, 2)
    if libc.fcntl(descriptor, 1031, 4096) >= 0:
        print("resized", descriptor)
