"""Open as many descriptors of every kind as there can be, more than the limit says."""

import os
import select
import socket


def main_solution():
    opened = []
    for way in (
        os.pipe,
        lambda: [os.eventfd(0)],
        lambda: [os.dup(select.epoll().fileno())],
        lambda: [one.detach() for one in socket.socketpair()],
        lambda: [os.open("/dev/zero", os.O_RDONLY)],
        lambda: [os.dup(1)],
    ):
        try:
            while len(opened) < 10000:
                opened += way()
        except OSError:
            continue
    try:
        os.dup2(1, 5000)
        opened.append(5000)
    except OSError:
        pass
    return [len(opened)] if max(opened) >= 64 else []
