"""Checkers: programs that decide where more than one answer is right, in a jail that nothing else enters."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from codeio_hpc.sandbox.functions import Functions
from codeio_hpc.sandbox.jail import protocol
from codeio_hpc.sandbox.jail.compiler import CompilationError
from codeio_hpc.sandbox.jail.nsjail import give_away
from codeio_hpc.sandbox.jail.protocol import JailLostError
from codeio_hpc.sandbox.jail.scratch import ScratchFolder
from codeio_hpc.sandbox.jails import Jails, Refusal
from codeio_hpc.sandbox.languages import find_language
from codeio_hpc.sandbox.policy import Level
from codeio_hpc.sandbox.reading import read_test
from codeio_hpc.sandbox.request import Checker, FunctionRequest
from codeio_hpc.sandbox.values import JsonValue
from codeio_hpc.sandbox.verdicts import Verdict

WRONG = {1, 2, 4, 8}
"""testlib.h: wrong answer, presentation error, dirt after the end, unexpected end of file."""
FAILED = 3
"""testlib.h: the checker itself failed."""

FILES = ("input", "output", "answer")


class CheckerFailedError(Exception):
    """The checker gave no answer; that says nothing about what it was to judge."""

    def __init__(self, words: str, said_so: bool = False) -> None:
        super().__init__(words)
        self.said_so = said_so
        """It ended as testlib's do where they find the input or the answer at fault."""


class Checkers:
    """Runs checkers in jails of their own. What they are given comes from outside and from the programs they judge."""

    def __init__(self, levels: tuple[Level, ...], hash_seed: int, nsjail: str | None) -> None:
        self._scratch: ScratchFolder | None = None
        self._jails = Jails(levels, hash_seed, nsjail)
        self._hash_seed = hash_seed

    def close(self) -> None:
        """End the jails and remove what they read."""
        self._jails.close()
        if self._scratch:
            self._scratch.remove()
            self._scratch, self._jails.folder = None, ""

    @staticmethod
    def id(checker: Checker) -> str:
        """What is stored with a verdict."""
        parts = [checker.language, checker.code, *(text for item in sorted(checker.files.items()) for text in item)]
        return "checker:" + hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]

    def check(self, checker: Checker, stdin: bytes, stdout: bytes, expected: bytes) -> tuple[bool, str | None]:
        """Whether ``stdout`` is right, and the checker's message.

        A checker may fail on what a wrong program prints: where it accepts the expected answer, the output is at fault.

        Raises:
            CheckerFailedError: it raised, ran too long, or said itself that it failed, whatever it was given.
        """
        try:
            return self._ask(checker, stdin, stdout, expected)
        except CheckerFailedError as failure:
            with suppress(CheckerFailedError):
                if expected and not failure.said_so and self._ask(checker, stdin, expected, expected)[0]:
                    return False, f"the checker could not read it: {failure}"[:500]
            raise

    def _ask(self, checker: Checker, stdin: bytes, stdout: bytes, expected: bytes) -> tuple[bool, str | None]:
        if find_language(checker.language).compiler:
            return self._run(checker, stdin, stdout, expected)
        texts = [text.decode("utf-8", "replace") for text in (stdin, stdout, expected)]
        value: JsonValue = dict(zip(("stdin", "stdout", "expected"), texts, strict=True))
        request = FunctionRequest("checker", checker.code, "check", [value], limits=checker.limits)
        (result,) = Functions(self._jails, checker.limits, self._hash_seed).run(request).results
        match result.output:
            case bool(right):
                return right, None
            case [bool(right), str(message)]:
                return right, message[:500]
        given = f"it returned {result.output!r}"[:200] + ", neither True nor False, nor one of these with a text"
        raise CheckerFailedError(result.error or given)

    def _run(self, checker: Checker, stdin: bytes, stdout: bytes, expected: bytes) -> tuple[bool, str | None]:
        self._offer(stdin, stdout, expected)
        try:
            binary = self._jails.compiled(find_language(checker.language), checker.code, checker.files)
        except CompilationError as error:
            raise CheckerFailedError(f"it does not compile: {error}") from None
        except JailLostError as error:
            raise CheckerFailedError(f"it could not be compiled here: {error}") from None
        words = ["checker", *(os.path.join(self._jails.folder, name) for name in FILES)]
        body = "\0".join(words).encode()
        answer = self._jails.attempt("native", body, checker.limits, 0, mode=protocol.NATIVE, program=binary)
        if isinstance(answer, Refusal):
            raise CheckerFailedError(answer.error)
        result = read_test(answer, checker.limits, 0, 0)
        message = result.stderr.decode("utf-8", "replace").strip()[:500] or None
        if result.verdict is Verdict.OK:
            return True, message
        if result.exit_code in WRONG:
            return False, message
        raise CheckerFailedError(" ".join(filter(None, [result.error, message])), result.exit_code == FAILED)

    def _offer(self, *contents: bytes) -> None:
        """Put the three files where the jail reads them. It cannot write there; only this process does."""
        if not self._scratch:
            self._scratch = ScratchFolder()
            os.chmod(self._scratch.path, 0o711)
            self._jails.folder = os.path.join(self._scratch.path, "files")
            os.mkdir(self._jails.folder, 0o700)
            give_away(self._jails.folder)
        for name, content in zip(FILES, contents, strict=True):
            path = Path(self._jails.folder, name)
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            give_away(str(path))
