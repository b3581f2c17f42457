"""Leave processes behind that hold its output open, by every way to start one."""

import multiprocessing
import os
import pty
import subprocess
import sys


def spin():
    while True:
        pass


ways = {
    "fork": os.fork,
    "pty": lambda: pty.fork()[0],
    "subprocess": lambda: subprocess.Popen([sys.executable, "-c", "while True: pass"]).pid,
    "shell": lambda: int(os.system("sleep 60 &") == 0),
    "spawn": lambda: os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 60"], {}),
    "multiprocessing": lambda: multiprocessing.get_context("fork").Process(target=spin).start() or 1,
    "execute": lambda: os.execv("/bin/sh", ["sh", "-c", "echo executed"]),
}
for name, way in ways.items():
    try:
        pid = way()
    except OSError:
        continue
    if pid == 0 and name in ("fork", "pty"):
        spin()
    if pid > 0:
        print(name)
