"""Open a socket of every family; bind and connect abstract names; send over a socket pair to an address."""

import socket


def main_solution():
    through = []
    for family in range(46):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                socket.socket(family, kind)
                through.append([family, int(kind)])
            except OSError:
                pass
    left, _right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for name, call in {
        "bind": lambda: left.bind("\0codeio-attack"),
        "connect": lambda: left.connect("\0codeio-attack"),
        "sendto": lambda: left.sendto(b"x", "\0codeio-attack"),
        "listen": lambda: left.listen(),
        "pass descriptors": lambda: socket.send_fds(left, [b"x"], [3]),
    }.items():
        try:
            call()
            through.append(name)
        except OSError:
            pass
    return through
