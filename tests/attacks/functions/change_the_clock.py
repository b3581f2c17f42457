"""Set the clock, the host name, the time of the next wake-up, and the personality."""

import ctypes


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    zero = (ctypes.c_long * 26)()
    for name, call in {
        "clock_settime": lambda: libc.clock_settime(0, zero),
        "settimeofday": lambda: libc.settimeofday(zero, None),
        "adjtimex": lambda: libc.syscall(159, zero),
        "sethostname": lambda: libc.sethostname(b"attack", 6),
        "personality": lambda: libc.personality(0x0040000),
        "reboot": lambda: libc.syscall(169, 0xFEE1DEAD, 672274793, 0, 0),
    }.items():
        if call() >= 0:
            through.append(name)
    return through
