"""Mount by the newer calls that work on descriptors, and by remounting or moving what is there."""

import ctypes


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    attributes = (ctypes.c_uint64 * 4)()
    for name, arguments in {
        "open_tree": (428, -100, b"/tmp", 1),
        "move_mount": (429, -100, b"/", -100, b"/tmp", 0),
        "fsopen": (430, b"tmpfs", 0),
        "fsconfig": (431, 0, 6, None, None, 0),
        "fsmount": (432, 0, 0, 0),
        "fspick": (433, -100, b"/", 0),
        "mount_setattr": (442, -100, b"/", 0x8000, attributes, 32),
        "open_tree_attr": (467, -100, b"/", 1, attributes, 32),
    }.items():
        if libc.syscall(*arguments) >= 0:
            through.append(name)
    for name, flags in {"remount writable": 32, "bind": 4096, "move": 8192, "private": 1 << 18}.items():
        if libc.mount(b"/", b"/tmp", None, flags, None) >= 0:
            through.append(name)
    return through
