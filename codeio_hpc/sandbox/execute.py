"""``codeio exec``: requests in JSON lines, results in JSON lines, in the order of the requests.

At most a few requests for each worker are in memory at a time, whatever the length of the input; of these, the one that
may take longest is run first, so that no worker is left alone with it at the end.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import TextIO

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.jails import NoIsolationError
from codeio_hpc.sandbox.lines import (
    MAX_LINE_BYTES,
    LineRequest,
    MalformedLineError,
    read_line,
    write_malformed,
    write_result,
)
from codeio_hpc.sandbox.policy import Limits, check_seeds, limit_changes
from codeio_hpc.sandbox.pool import Pool
from codeio_hpc.sandbox.request import Execution, FunctionRequest, FunctionResult, ProgramRequest, ProgramResult
from codeio_hpc.sandbox.values import canonical
from codeio_hpc.sandbox.verdicts import Verdict

MALFORMED = 2
"""Exit code when at least one line was no request."""

_AHEAD = 8
"""Requests read ahead for each worker."""


def execute(source: str, sink: str, workers: int, limits: Sequence[str], isolation: str) -> int:
    """The verb: file names (``-`` for the standard streams) and words as typed. Returns the exit code.

    Raises:
        UserError: a file that cannot be opened, a wrong limit, no acceptable isolation.
    """
    changes = limit_changes(limits)
    Limits().updated(changes)  # wrong ones are refused before anything runs
    if source != "-" and sink != "-" and os.path.exists(sink) and os.path.samefile(source, sink):
        raise UserError(f"--in and --out are both {source}", "the requests would be gone", "give --out another name")
    with ExitStack() as stack:
        try:
            reader = sys.stdin if source == "-" else stack.enter_context(open(source, encoding="utf-8"))
        except OSError as error:
            raise UserError(f"--in {source}", error.strerror or str(error), "give a readable file, or -") from None
        try:
            writer = sys.stdout if sink == "-" else stack.enter_context(open(sink, "w", encoding="utf-8"))
        except OSError as error:
            raise UserError(f"--out {sink}", error.strerror or str(error), "give a writable file, or -") from None
        return run_lines(reader, writer, workers, changes, isolation)


def run_lines(
    source: TextIO,
    sink: TextIO,
    workers: int = 1,
    limits: Mapping[str, object] | None = None,
    minimum: str = "landlock+seccomp",
    level: str | None = None,
) -> int:
    """Execute every request of ``source``. Returns 0, or 2 if a line was malformed (its result line says why).

    Args:
        workers: jails at a time; one a core is right.
        limits: by name, where a request does not set them itself.
        minimum: the weakest isolation level that is accepted.
        level: exactly this level.

    Raises:
        UserError: no acceptable isolation here, or less than one worker.
    """
    if workers < 1:
        raise UserError(f"{workers} workers", "nothing would run", "ask for at least 1")
    results = _Results(sink)
    with ExitStack() as stack:
        idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            idle.put(stack.enter_context(_Worker(minimum, level)))
        threads, backlog = ThreadPoolExecutor(workers), _Backlog()
        stack.callback(threads.shutdown, cancel_futures=True)  # before the workers close: last in, first out
        for number, text in _numbered(source):
            line: Future[str] = Future()
            try:
                if text is None:
                    raise MalformedLineError(f"longer than {MAX_LINE_BYTES} bytes")
                backlog.add(read_line(text, limits or {}), line)
                threads.submit(backlog.serve, idle)
            except MalformedLineError as error:
                line.set_exception(error)
            results.expect(number, line)
            results.write(leave=_AHEAD * workers)
        results.write(leave=0)
    return results.end()


def _numbered(source: TextIO) -> Iterator[tuple[int, str | None]]:
    """Line numbers from 1 and lines that are not blank; None for a line that is too long to be held."""
    number = 0
    while True:
        try:
            text = source.readline(MAX_LINE_BYTES)
        except UnicodeDecodeError as error:
            raise UserError(f"the input after line {number}", f"it is not UTF-8: {error}", "convert it") from None
        if not text:
            return
        number += 1
        if len(text) >= MAX_LINE_BYTES and not text.endswith("\n"):
            while text and not text.endswith("\n"):
                text = source.readline(MAX_LINE_BYTES)
            yield number, None
        elif text.strip():
            yield number, text


class _Backlog:
    """What was read and not yet begun; the longest goes first."""

    def __init__(self) -> None:
        self._waiting: queue.PriorityQueue[tuple[float, int, LineRequest, Future[str]]] = queue.PriorityQueue()
        self._count = 0
        self._telling, self._told = threading.Lock(), False

    def add(self, request: LineRequest, line: Future[str]) -> None:
        """``line`` is where its result line will be."""
        self._count += 1
        self._waiting.put((-request.longest_seconds, self._count, request, line))

    def serve(self, idle: queue.SimpleQueue[_Worker]) -> None:
        """Run one request on a worker that is free."""
        worker = idle.get()
        _, _, request, line = self._waiting.get()
        try:
            line.set_result(write_result(request, worker.run(request)))
            self._tell(worker.weaker)
        except UserError as error:
            if isinstance(error, NoIsolationError):
                line.set_exception(error)
            else:  # of this line, as a language without a compiler here; others can be run
                line.set_exception(MalformedLineError(f"{error.found}: {error.why}; {error.fix}", request.identifier))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the line raises it
            line.set_exception(error)
        finally:
            idle.put(worker)

    def _tell(self, weaker: str) -> None:
        """Once, that the isolation is not the strongest."""
        with self._telling:
            if weaker and not self._told:
                self._told = True
                print(f"codeio exec: {weaker} (codeio doctor sandbox)", file=sys.stderr)


class _Results:
    """Result lines, written in the order of the requests."""

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink
        self._waiting: deque[tuple[int, Future[str]]] = deque()
        self._progress = _Progress()
        self._malformed: list[str] = []

    def expect(self, number: int, line: Future[str]) -> None:
        """The result of line ``number`` comes next."""
        self._waiting.append((number, line))

    def write(self, leave: int) -> None:
        """Wait for lines and write them, until only so many are left."""
        while len(self._waiting) > leave:
            number, line = self._waiting.popleft()
            try:
                text = line.result()
            except MalformedLineError as error:
                self._malformed.append(f"line {number}: {error}")
                text = write_malformed(number, error)
            self._sink.write(text + "\n")
            self._progress.step()

    def end(self) -> int:
        """The exit code."""
        self._sink.flush()
        self._progress.end()
        if not self._malformed:
            return 0
        count = len(self._malformed)
        what = f"{count} lines were" if count > 1 else "1 line was"
        print(f"codeio exec: {what} not run; the first: {self._malformed[0][:300]}", file=sys.stderr)
        return MALFORMED


class _Worker:
    """A pool, and further ones under other hash seeds for the determinism check; each starts when first needed."""

    def __init__(self, minimum: str, level: str | None) -> None:
        self._pools = {seed: Pool(minimum=minimum, level=level, hash_seed=seed) for seed in (0, 1, 2, 3)}

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        for pool in self._pools.values():
            pool.close()

    @property
    def weaker(self) -> str:
        """Why the isolation is not the strongest that is accepted."""
        return self._pools[0].jails.weaker

    def run(self, request: LineRequest) -> FunctionResult | ProgramResult:
        """Execute, and if asked for execute again what was ok."""
        function = request.request
        if isinstance(function, ProgramRequest):
            return self._pools[0].run_program(function)
        result = self._pools[0].run(function)
        merged = list(result.results)
        for seed in check_seeds(function.code) if request.check_determinism else ():
            places = [place for place, one in enumerate(merged) if one.verdict is Verdict.OK]
            if places:
                again = self._pools[seed].run(_again(function, [merged[place] for place in places]))
                for place, other in zip(places, again.results, strict=True):
                    merged[place] = _compared(merged[place], other)
        return replace(result, results=merged)


def _again(function: FunctionRequest, runs: list[Execution]) -> FunctionRequest:
    return replace(function, inputs=[one.input for one in runs], generator=None, expected=None)


def _compared(one: Execution, other: Execution) -> Execution:
    """The first run, or why it does not count."""
    verdict = other.verdict
    if verdict is Verdict.OK and canonical(one.output, non_finite=True) == canonical(other.output, non_finite=True):
        return one
    error = "another output under another hash seed and random seed"
    if verdict is not Verdict.OK:
        error = f"{verdict.value} when run again under another hash seed: {other.error or ''}".rstrip(": ")
    if verdict not in (Verdict.INFRASTRUCTURE, Verdict.TIMEOUT):
        verdict = Verdict.NONDETERMINISTIC
    return replace(one, verdict=verdict, output=None, error=error, correct=None if one.correct is None else False)


class _Progress:
    """A line on standard error, only for a person and only if it takes longer than 5 s."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._done = 0
        self._shown = False

    def step(self) -> None:
        """One more result."""
        self._done += 1
        now = time.monotonic()
        if now - self._start > 5 and now - self._last > 0.5 and sys.stderr.isatty():
            rate = self._done / (now - self._start)
            print(f"\r{self._done} requests, {rate:.1f}/s ", end="", file=sys.stderr, flush=True)
            self._last, self._shown = now, True

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            print(file=sys.stderr)
