"""``codeio exec``: requests in JSON lines, results in JSON lines, in the order of the requests.

At most a few requests for each worker are in memory at a time, whatever the length of the input.
"""

from __future__ import annotations

import queue
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import TextIO

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.lines import (
    MAX_LINE_BYTES,
    LineRequest,
    MalformedLineError,
    read_line,
    write_malformed,
    write_result,
)
from codeio_hpc.sandbox.policy import Limits, check_seeds
from codeio_hpc.sandbox.pool import Pool
from codeio_hpc.sandbox.request import Execution, FunctionRequest, FunctionResult
from codeio_hpc.sandbox.values import canonical
from codeio_hpc.sandbox.verdicts import Verdict

MALFORMED = 2
"""Exit code when at least one line was no request."""

_AHEAD = 4
"""Requests read ahead for each worker."""


def execute(source: str, sink: str, workers: int, limits: Sequence[str], isolation: str) -> int:
    """The verb: file names (``-`` for the standard streams) and words as typed. Returns the exit code.

    Raises:
        UserError: a file that cannot be opened, a wrong limit, no acceptable isolation.
    """
    parsed = Limits.parse(limits)
    with ExitStack() as stack:
        try:
            reader = sys.stdin if source == "-" else stack.enter_context(open(source, encoding="utf-8"))
        except OSError as error:
            raise UserError(f"--in {source}", error.strerror or str(error), "give a readable file, or -") from None
        try:
            writer = sys.stdout if sink == "-" else stack.enter_context(open(sink, "w", encoding="utf-8"))
        except OSError as error:
            raise UserError(f"--out {sink}", error.strerror or str(error), "give a writable file, or -") from None
        return run_lines(reader, writer, workers, parsed, isolation)


def run_lines(
    source: TextIO,
    sink: TextIO,
    workers: int = 1,
    limits: Limits | None = None,
    minimum: str = "landlock+seccomp",
    level: str | None = None,
) -> int:
    """Execute every request of ``source``. Returns 0, or 2 if a line was malformed (its result line says why).

    Args:
        workers: jails at a time; one a core is right.
        minimum: the weakest isolation level that is accepted.
        level: exactly this level.

    Raises:
        UserError: no acceptable isolation here, or less than one worker.
    """
    if workers < 1:
        raise UserError(f"{workers} workers", "nothing would run", "ask for at least 1")
    code = 0
    progress = _Progress()
    with ExitStack() as stack:
        idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            idle.put(stack.enter_context(_Worker(minimum, level)))
        threads = ThreadPoolExecutor(workers)
        stack.callback(threads.shutdown, cancel_futures=True)  # before the workers close: last in, first out
        waiting: deque[Future[str] | str] = deque()
        for number, text in _numbered(source):
            try:
                request = read_line(text, limits or Limits()) if text is not None else _too_long()
                waiting.append(threads.submit(_serve, idle, request))
            except MalformedLineError as error:
                code = MALFORMED
                waiting.append(write_malformed(number, error))
            while len(waiting) > _AHEAD * workers:
                _emit(sink, waiting.popleft(), progress)
        while waiting:
            _emit(sink, waiting.popleft(), progress)
    sink.flush()
    progress.end()
    return code


def _too_long() -> LineRequest:
    raise MalformedLineError(f"longer than {MAX_LINE_BYTES} bytes")


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


def _serve(idle: queue.SimpleQueue[_Worker], request: LineRequest) -> str:
    worker = idle.get()
    try:
        return write_result(request, worker.run(request))
    finally:
        idle.put(worker)


def _emit(sink: TextIO, result: Future[str] | str, progress: _Progress) -> None:
    sink.write((result if isinstance(result, str) else result.result()) + "\n")
    progress.step()


class _Worker:
    """A pool, and further ones under other hash seeds for the determinism check; each starts when first needed."""

    def __init__(self, minimum: str, level: str | None) -> None:
        self._pools = {seed: Pool(minimum=minimum, level=level, hash_seed=seed) for seed in (0, 1, 2, 3)}

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        for pool in self._pools.values():
            pool.close()

    def run(self, request: LineRequest) -> FunctionResult:
        """Execute, and if asked for execute again what was ok."""
        function = request.function
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
