"""Call what administers the machine: swap, quotas, kernel log, ports, modules, accounting, time, root file systems."""

import ctypes


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    buffer = ctypes.create_string_buffer(4096)
    for name, arguments in {
        "swapon": (167, b"/tmp", 0),
        "swapoff": (168, b"/dev/vda"),
        "quotactl": (179, 0x800002, b"/dev/vda", 0, buffer),
        "syslog": (103, 3, buffer, 4096),
        "ioperm": (173, 0, 1024, 1),
        "iopl": (172, 3),
        "acct": (163, None),
        "vhangup": (153,),
        "sysfs": (139, 3),
        "ustat": (136, 0, buffer),
        "lookup_dcookie": (212, 0, buffer, 4096),
        "delete_module": (176, b"x", 0),
        "finit_module": (313, 0, b"", 0),
        "kexec_file_load": (320, 0, 0, 0, b"", 0),
        "setdomainname": (171, b"x", 1),
        "sync": (162,),
        "clock_adjtime": (305, 0, buffer),
        "uselib": (134, b"/lib/x"),
        "set_tid of a filter": (317, 2, 0, buffer),
        "listmount": (458, buffer, buffer, 1, 0),
        "statmount": (457, buffer, buffer, 4096, 0),
    }.items():
        if libc.syscall(*arguments) >= 0:
            through.append(name)
    return through
