"""Programs and their tests: compiled where need be, run a process a test, judged outside their jail."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from codeio_hpc.sandbox.checkers import CheckerFailedError, Checkers
from codeio_hpc.sandbox.functions import MAX_TIMEOUTS
from codeio_hpc.sandbox.jail import protocol
from codeio_hpc.sandbox.jail.compiler import CompilationError
from codeio_hpc.sandbox.jail.elf import loaded_bytes
from codeio_hpc.sandbox.jail.protocol import JailLostError
from codeio_hpc.sandbox.jails import Jails, Refusal
from codeio_hpc.sandbox.languages import Language, find_language
from codeio_hpc.sandbox.policy import Kind, kind_of
from codeio_hpc.sandbox.reading import read_test
from codeio_hpc.sandbox.request import ProgramRequest, ProgramResult, ProgramRun, ProgramTest, TraceLimits
from codeio_hpc.sandbox.verdicts import Verdict

_DOCUMENT_BYTES = 2**16
"""Room for what a Python program's child tells beside what the program prints."""


def as_bytes(text: str | bytes) -> bytes:
    """Text as a program reads and writes it."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


class Programs:
    """Runs program requests in the jails of one worker."""

    def __init__(self, jails: Jails, hash_seed: int, checkers: Checkers) -> None:
        self.jails, self.hash_seed, self.checkers = jails, hash_seed, checkers

    def run(self, request: ProgramRequest) -> ProgramResult:
        """As ``Pool.run_program``."""
        language = find_language(request.language)
        binary, refused, failure = b"", None, ProgramRun(Verdict.EXCEPTION, error="does not compile")
        if language.compiler:
            try:
                binary = self.jails.compiled(language, request.program, {})
            except CompilationError as error:
                refused = str(error)
            except JailLostError as error:
                failure = ProgramRun(Verdict.INFRASTRUCTURE, error=f"not compiled: {error}")
        results: list[ProgramRun] = []
        timeouts = 0
        for test in request.tests:
            if language.compiler and not binary:
                result = failure
            elif timeouts >= MAX_TIMEOUTS:
                result = ProgramRun(Verdict.TIMEOUT, error=f"not run: {MAX_TIMEOUTS} tests timed out before it")
            else:
                result = self._test(request, language, binary, test)
                timeouts += result.verdict is Verdict.TIMEOUT
            result = self._judged(request, test, result)
            results.append(replace(result, stdout=result.stdout[: request.keep_bytes]))
            if request.stop_at_failure and result.correct is False:
                break
        judge = self.checkers.id(request.checker) if request.checker else request.comparator.id
        return ProgramResult(request.id, results, self.jails.level, judge, refused)

    def _test(self, request: ProgramRequest, language: Language, binary: bytes, test: ProgramTest) -> ProgramRun:
        trace = TraceLimits() if request.trace is True else request.trace or None
        kind: Kind = "native" if binary else kind_of(request.program)
        if (needed := loaded_bytes(binary)) > request.limits.memory_bytes:  # nothing would start, and nothing say why
            return ProgramRun(Verdict.MEMORY, error=f"the program's code and static data take {needed:,} bytes")
        mode, body, room = protocol.NATIVE, b"program", 0
        if not binary:
            task = {"code": request.program, "seed": f"{request.seed}:{self.hash_seed}"}
            body = json.dumps(task | {"trace": asdict(trace) if trace else None}).encode()
            mode, room = protocol.PROGRAM, _DOCUMENT_BYTES + (trace.bytes if trace else 0)
        answer = self.jails.attempt(
            kind, body, request.limits, room, mode=mode, stdin=as_bytes(test.stdin), program=binary
        )
        if isinstance(answer, Refusal):
            return ProgramRun(answer.verdict, error=answer.error)
        return read_test(answer, request.limits, room, trace.events if trace else 0)

    def _judged(self, request: ProgramRequest, test: ProgramTest, result: ProgramRun) -> ProgramRun:
        """The result with ``correct``."""
        was_run = result.verdict not in (Verdict.INFRASTRUCTURE, Verdict.TOO_LARGE)
        if not was_run or (test.stdout is None and request.checker is None):
            return result
        if result.verdict is not Verdict.OK:
            return replace(result, correct=False)
        expected = as_bytes(test.stdout or b"")
        if request.checker is None:
            return replace(result, correct=request.comparator.equal(result.stdout, expected))
        try:
            correct, message = self.checkers.check(request.checker, as_bytes(test.stdin), result.stdout, expected)
        except CheckerFailedError as error:
            return replace(result, verdict=Verdict.INFRASTRUCTURE, error=f"the checker failed: {error}")
        return replace(result, correct=correct, error=message)
