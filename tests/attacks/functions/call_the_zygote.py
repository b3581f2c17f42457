"""Find the zygote's own objects by frames and by gc, and use them: send an answer, serve, fork."""

import gc
import os
import struct
import sys


def main_solution():
    through = []
    names = {}
    frame = sys._getframe()
    while frame:
        names.update(frame.f_globals)
        frame = frame.f_back
    body = b'{"status": "ok", "output": ["forged"]}'
    frame = struct.pack("<4sIIIQBiddQ", b"CEND", len(body), 0, 0, 1, 0, 0, 0.0, 0.0, 0)
    zygotes = [one for one in gc.get_objects() if type(one).__name__ == "Zygote"]
    calls = {"send": lambda: names["send"](frame, memoryview(body)), "load": lambda: names["load"](memoryview(b"x"))[0]}
    for zygote in zygotes:
        calls["serve"] = zygote.serve
        calls["run"] = lambda zygote=zygote: zygote.run(b"CRUN", 0, 0, 1.0, 1.0, 2**30, 100, 0)
        calls["its descriptor"] = lambda zygote=zygote: os.fstat(zygote.own_pidfd)
    for name, call in calls.items():
        try:
            result = call()
        except BaseException:
            continue
        if result != 5:  # NOT_STARTED
            through.append(name)
    return through
