"""What is to be known of native programs: a very small one, and how much memory one takes before it begins (elf(5))."""

from __future__ import annotations

import struct

EXIT_CODE = 42
"""Of the smallest program."""

_LOAD = 1
_ENTRY, _HEADERS = 0x400000, 64 + 56
_MACHINES = {
    "x86_64": (62, bytes.fromhex("bf2a000000b8e70000000f05")),  # mov edi, 42; mov eax, exit_group; syscall
    "aarch64": (183, bytes.fromhex("400580d2c80b80d2010000d4")),  # mov x0, 42; mov x8, exit_group; svc 0
}
"""ELF's number of the machine; a program that only ends."""


def smallest_program(machine: str) -> bytes:
    """An executable that ends with ``EXIT_CODE``."""
    number, code = _MACHINES[machine]
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)  # 64 bits, little-endian, current
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, number, 1, _ENTRY + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", _LOAD, 5, 0, _ENTRY, _ENTRY, size, size, 4096)  # read and executed
    return header + segment + code


def loaded_bytes(program: bytes) -> int:
    """Memory that a program's code and its static data take; 0 where it is none that can be read."""
    try:
        (table,), (size, count) = struct.unpack_from("<Q", program, 32), struct.unpack_from("<HH", program, 54)
        entries = [struct.unpack_from("<IIQQQQQQ", program, table + number * size) for number in range(count)]
    except struct.error:
        return 0
    return sum(entry[6] for entry in entries if entry[0] == _LOAD)
