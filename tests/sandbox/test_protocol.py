"""Frames that are broken, mutated or forged: a zygote answers or ends, a worker takes the right answer or none."""

from __future__ import annotations

import json
import math
import os
import platform
import random
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from codeio_hpc.sandbox.jail import bpf, protocol
from codeio_hpc.sandbox.jail.nsjail import NOBODY
from codeio_hpc.sandbox.jail.protocol import ANSWER, REQUEST, Bounds, Channel, JailLostError
from codeio_hpc.sandbox.jail.readable import INSIDE, interpreter

MOST_BYTES = 2**20
"""Of a request, here."""

EXTREMES = [
    0,
    1,
    2,
    63,
    255,
    2**16,
    MOST_BYTES - 1,
    MOST_BYTES,
    MOST_BYTES + 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
]
FLOATS = [0.0, -0.0, -1.0, 1e-300, 1e300, 1e9, math.inf, -math.inf, math.nan]
"""Of seconds."""


@contextmanager
def zygote() -> Iterator[subprocess.Popen[bytes]]:
    """The program that jails start, configured and without a jail around it; its children have the filter."""
    program = bpf.build(platform.machine())
    settings = {
        "pid_namespace": False,
        "max_threads": None,
        "stack_bytes": 8 * 2**20,
        "pidfd": True,
        "max_request_bytes": MOST_BYTES,
        "max_stdin_bytes": MOST_BYTES,
        "filter": program.packed().hex(),
        "pid_offsets": program.pid_offsets(),
        "drop_to": [NOBODY, NOBODY] if os.geteuid() == 0 else None,
        "landlock": False,
        "preload": [],
    }
    body = json.dumps(settings).encode()
    command = [interpreter(), "-s", "-P", "-B", str(INSIDE / "main.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdin and process.stdout
            process.stdin.write(REQUEST.pack(protocol.CONFIGURE, len(body), 0, 0, 0, 0, 0, 0, 0) + body)
            process.stdin.flush()
            word, length, *_ = ANSWER.unpack(process.stdout.read(ANSWER.size))
            assert word == protocol.HELLO
            process.stdout.read(length)
            yield process
        finally:
            process.kill()


def task(number: int) -> bytes:
    code = f"def f(): return {number}"
    fields = {"kind": "call", "code": code, "entry_point": "f", "input": "{}", "seed": "0"}
    return json.dumps(fields | {"output_bytes": 100, "non_finite": False}).encode()


def good_frame(sequence: int) -> bytes:
    body = task(sequence)
    return REQUEST.pack(protocol.RUN, len(body), 0, sequence, 5.0, 20.0, 2**30, 1000, 0) + body


def bad_frame(chance: random.Random, sequence: int) -> bytes:
    """A frame with something wrong, in one of the ways that there are."""
    body = task(sequence)
    fields = [protocol.RUN, len(body), 0, sequence, 5.0, 20.0, 2**30, 1000, 0]
    match chance.randrange(8):
        case 0:
            return chance.randbytes(chance.choice([1, REQUEST.size - 1, REQUEST.size, 1000]))
        case 1:
            fields[0] = chance.choice([protocol.CONFIGURE, protocol.HELLO, protocol.END, bytes(4), chance.randbytes(4)])
        case 2:
            fields[chance.choice([1, 2])] = chance.choice(EXTREMES[:-2])
        case 3:
            fields[chance.choice([4, 5])] = chance.choice(FLOATS)
        case 4:
            fields[chance.choice([6, 7, 8])] = chance.choice(EXTREMES)
        case 5:
            fields[0] = chance.choice([protocol.PROGRAM, protocol.NATIVE, protocol.LOAD])
            fields[2] = len(body) // 2
            fields[1] = len(body) - fields[2]
            fields[8] = 1000
        case 6:
            body = chance.randbytes(len(body))
        case 7:
            frame = bytearray(REQUEST.pack(*fields) + body)
            for _ in range(chance.randint(1, 4)):
                frame[chance.randrange(REQUEST.size)] = chance.randrange(256)
            return bytes(frame)
    return REQUEST.pack(*fields) + body


def questions(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Sequence number and task of every request that the stream holds, as any reader would cut it."""
    while len(stream) >= REQUEST.size:
        magic, length, given, sequence, *_ = REQUEST.unpack(stream[: REQUEST.size])
        rest = stream[REQUEST.size :]
        known = magic in (protocol.RUN, protocol.PROGRAM, protocol.LOAD, protocol.NATIVE)
        too_much = max(length, given) > MOST_BYTES or (magic == protocol.RUN and given)
        if not known or too_much or length + given > len(rest):
            return
        yield sequence, stream[: REQUEST.size] + rest[:length]
        stream = rest[length + given :]


def conversation(chance: random.Random) -> None:
    """One zygote's life: good and bad frames, then the end of the pipe."""
    numbers = [chance.randrange(2**40) for _ in range(chance.randint(1, 6))]
    frames = [good_frame(n) if chance.random() < 0.6 else bad_frame(chance, n) for n in numbers]
    if chance.random() < 0.3:
        frames[-1] = frames[-1][: chance.randrange(len(frames[-1]))]
    stream = b"".join(frames)
    with zygote() as process:
        assert process.stdin and process.stdout
        writer = threading.Thread(target=feed, args=(process, stream))
        writer.start()
        output = reading(process)
        writer.join()
        assert process.wait(10) is not None
    asked = list(questions(stream))
    place = 0
    for sequence, frame in asked:
        if place == len(output):
            break  # it ended early, and says so by ending
        header = ANSWER.unpack(output[place : place + ANSWER.size])
        word, length, printed, messages, told, ending, code, *_ = header
        place += ANSWER.size
        document = output[place : place + length]
        place += length + printed + messages
        assert word == protocol.END and told == sequence and ending <= max(protocol.Ending) and place <= len(output)
        if frame == good_frame(sequence):
            assert (ending, code) == (0, 0) and json.loads(document) == {"status": "ok", "output": sequence}
        elif frame[:4] == protocol.RUN and ending == code == 0 and frame[REQUEST.size :] == task(sequence):
            assert json.loads(document)["output"] == sequence
    assert place == len(output), "more answers than questions"


def feed(process: subprocess.Popen[bytes], stream: bytes) -> None:
    assert process.stdin
    try:
        process.stdin.write(stream)
        process.stdin.close()
    except OSError:
        pass  # it ended before


def reading(process: subprocess.Popen[bytes]) -> bytes:
    """All that it answers; a zygote that hangs is killed, and its answers then end in the middle of the questions."""
    assert process.stdout
    timer = threading.Timer(60, process.kill)
    timer.start()
    output = process.stdout.read()
    hung = not timer.is_alive()
    timer.cancel()
    assert not hung, "the zygote hangs"
    return output


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 60))])
def test_a_zygote_answers_what_it_was_asked_or_ends(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(10):
        conversation(chance)


def test_a_request_longer_than_the_zygote_s_memory_ends_it() -> None:
    for length, given in ((MOST_BYTES + 1, 0), (MOST_BYTES, 1), (1, MOST_BYTES), (2**32 - 1, 2**32 - 1)):
        with zygote() as process:
            assert process.stdin and process.stdout
            head = REQUEST.pack(protocol.RUN, length, given, 1, 5.0, 20.0, 2**30, 1000, 0)
            feed(process, head + bytes(2 * MOST_BYTES))
            assert reading(process) == b"" and process.wait(10) == 1


def test_a_zygote_s_memory_does_not_grow_with_what_a_header_promises() -> None:
    with zygote() as process:
        assert process.stdin and process.stdout
        for sequence in range(1, 6):
            body = task(sequence)
            head = (protocol.RUN, len(body), 0, sequence, 5.0, 20.0, 2**30)
            process.stdin.write(REQUEST.pack(*head, 2**28 * sequence, 0) + body)
            process.stdin.flush()
            length = ANSWER.unpack(process.stdout.read(ANSWER.size))[1]
            assert json.loads(process.stdout.read(length))["output"] == sequence
        with open(f"/proc/{process.pid}/statm", encoding="ascii") as file:
            assert int(file.read().split()[1]) * 4096 < 100 * 2**20


BOUNDS = Bounds(1.0, 1.0, 2**30, 1000, 500)
CONTENT = b"d" * 30, b"o" * 20, b"e" * 10


def answer(sequence: int = 1, **changes: object) -> bytes:
    fields = dict(zip(("document", "stdout", "stderr"), map(len, CONTENT), strict=True))
    fields = {"word": protocol.END, **fields, "sequence": sequence, "ending": 0, "code": 0}
    return ANSWER.pack(*{**fields, "cpu": 0.5, "wall": 0.5, "resident": 2**20, **changes}.values()) + b"".join(CONTENT)


def exchange(chunks: list[bytes], *, close: bool, deadline: float = 0.05) -> protocol.Answer:
    """What a worker takes of a jail that sends these bytes, whatever it is asked."""
    jail_reads, to_jail = os.pipe()
    from_jail, jail_writes = os.pipe()
    channel = Channel(to_jail, from_jail)
    ends = [jail_reads, jail_writes]

    def send() -> None:
        try:
            for chunk in chunks:
                os.write(jail_writes, chunk)
                if len(chunks) > 1:
                    time.sleep(0.001)
        except OSError:
            pass
        if close:
            os.close(ends.pop())

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return channel.exchange(protocol.RUN, b"task", BOUNDS, deadline, b"input")
    finally:
        channel.close()
        sender.join()
        for end in ends:
            os.close(end)


IMPOSSIBLE = [
    *({"word": word} for word in (protocol.HELLO, protocol.RUN, b"\0\0\0\0", b"cend")),
    *({"sequence": number} for number in (0, 2, 2**63, 2**64 - 1)),
    *({"document": size} for size in (1001, 2**31, 2**32 - 1)),
    *({"stdout": size} for size in (501, 2**32 - 1)),
    *({"stderr": size} for size in (protocol.MESSAGE_BYTES + 1, 2**32 - 1)),
    *({"ending": number} for number in (6, 7, 255)),
    *({name: value} for name in ("cpu", "wall") for value in (math.nan, math.inf, -math.inf, -1.0)),
]


@pytest.mark.parametrize("changes", IMPOSSIBLE, ids=str)
def test_an_impossible_answer_is_not_taken_and_not_waited_for(changes: dict[str, object]) -> None:
    started = time.monotonic()
    with pytest.raises(JailLostError):
        exchange([answer(**changes)], close=False, deadline=30)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("close", [True, False], ids=["closed", "silent"])
@pytest.mark.parametrize("kept", [0, 1, 4, ANSWER.size - 1, ANSWER.size, ANSWER.size + 1, len(answer()) - 1])
def test_half_an_answer_is_none(kept: int, close: bool) -> None:
    with pytest.raises(JailLostError):
        exchange([answer()[:kept]], close=close)


def test_an_answer_in_single_bytes_is_taken() -> None:
    taken = exchange([bytes([byte]) for byte in answer()], close=False, deadline=30)
    assert (taken.body, taken.stdout, taken.stderr) == CONTENT


def test_what_comes_after_an_answer_is_not_the_next_one() -> None:
    jail_reads, to_jail = os.pipe()
    from_jail, jail_writes = os.pipe()
    channel = Channel(to_jail, from_jail)
    try:
        os.write(jail_writes, answer() * 2)
        assert channel.exchange(protocol.RUN, b"", BOUNDS).body == CONTENT[0]
        with pytest.raises(JailLostError):
            channel.exchange(protocol.RUN, b"", BOUNDS)
    finally:
        channel.close()
        os.close(jail_reads)
        os.close(jail_writes)


def test_a_jail_that_does_not_read_is_given_up() -> None:
    jail_reads, to_jail = os.pipe()
    from_jail, jail_writes = os.pipe()
    channel = Channel(to_jail, from_jail)
    try:
        with pytest.raises(JailLostError, match="in time"):
            channel.exchange(protocol.RUN, b"x" * 2**22, BOUNDS, 0.1)
    finally:
        channel.close()
        os.close(jail_reads)
        os.close(jail_writes)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 40))])
def test_a_mutated_answer_is_taken_as_it_stands_or_not_at_all(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        data = bytearray(answer())
        for _ in range(chance.randint(1, 5)):
            match chance.randrange(3):
                case 0:
                    data[chance.randrange(min(ANSWER.size, len(data)))] = chance.randrange(256)
                case 1:
                    del data[chance.randrange(ANSWER.size, len(data) + 1) :]
                case 2:
                    data += chance.randbytes(chance.randrange(50))
        cut = chance.randrange(len(data))
        try:
            taken = exchange([bytes(data[:cut]), bytes(data[cut:])], close=True)
        except JailLostError:
            continue
        word, *lengths, sequence, ending, code, cpu, wall, resident = ANSWER.unpack(data[: ANSWER.size])
        assert (word, sequence) == (protocol.END, 1)
        assert [len(part) for part in (taken.body, taken.stdout, taken.stderr)] == lengths
        assert taken.body + taken.stdout + taken.stderr == data[ANSWER.size : ANSWER.size + sum(lengths)]
        told = (taken.ending, taken.code, taken.cpu_seconds, taken.wall_seconds, taken.resident_bytes)
        assert struct.pack("<BiddQ", *told) == struct.pack("<BiddQ", ending, code, cpu, wall, resident)
