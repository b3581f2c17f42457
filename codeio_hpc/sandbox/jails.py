"""A worker's jails: one for each kind of code, started when first needed, replaced when they age or die."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.jail import protocol
from codeio_hpc.sandbox.jail.compiler import CompilationError, compile_program
from codeio_hpc.sandbox.jail.protocol import Answer, Ending, JailLostError
from codeio_hpc.sandbox.jail.selftest import JailNotTightError, prove
from codeio_hpc.sandbox.jail.start import Jail, JailUnavailableError, start_jail
from codeio_hpc.sandbox.languages import Language
from codeio_hpc.sandbox.policy import MAX_REQUEST_BYTES, MAX_STDIN_BYTES, RUNS_PER_ZYGOTE, Kind, Level, Limits
from codeio_hpc.sandbox.verdicts import Verdict

_COMPILED_KEPT = 16
"""Programs: a problem's checker judges many submissions."""


class NoIsolationError(UserError):
    """Nothing untrusted can be run here as it was asked for."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was run; why."""

    verdict: Verdict
    error: str


class Jails:
    """Runs one request after the other, each in a process of its own.

    Args:
        levels: the isolation levels that are accepted, the strongest first; the first that starts here is used.
        hash_seed: ``PYTHONHASHSEED`` of the interpreters inside.
        nsjail: path of the nsjail binary, instead of looking for one.
    """

    def __init__(self, levels: tuple[Level, ...], hash_seed: int = 0, nsjail: str | None = None) -> None:
        self._levels = levels
        self._hash_seed = hash_seed
        self._nsjail = nsjail
        self.weaker = ""
        """Why a weaker level is in use than the strongest that is accepted, in one line; empty if it is not."""
        self.folder = ""
        """Of the worker's, which jails that start from now on can read."""
        self.running: dict[Kind, Jail] = {}
        self._compiled: OrderedDict[tuple[str, ...], bytes | CompilationError] = OrderedDict()
        self._proved: set[Kind] = set()

    @property
    def level(self) -> Level:
        """The level in use; before the first jail has started, the strongest that is accepted."""
        return self._levels[0]

    @property
    def started(self) -> bool:
        """Whether a jail has started and proved itself."""
        return bool(self._proved)

    def close(self) -> None:
        """End all jails; they start again when they are needed."""
        for kind in list(self.running):
            self._discard(kind)

    def attempt(
        self,
        kind: Kind,
        body: bytes,
        limits: Limits,
        room: int,
        *,
        mode: bytes = protocol.RUN,
        stdin: bytes = b"",
        program: bytes = b"",
        second_chance: bool = True,
    ) -> Answer | Refusal:
        """Run one request. A failure of the sandbox is tried once more before it counts, and so is (with a second
        chance) running out of wall time, which a busy node can cause; of CPU time it cannot.

        Args:
            room: bytes of the document that may come back.
            program: of a native program; loaded if the jail has not got it.

        Raises:
            UserError: no acceptable isolation here.
        """
        if len(body) > MAX_REQUEST_BYTES:
            return Refusal(Verdict.TOO_LARGE, f"code and input together exceed {MAX_REQUEST_BYTES} bytes")
        if len(stdin) > MAX_STDIN_BYTES:
            return Refusal(Verdict.TOO_LARGE, f"the standard input exceeds {MAX_STDIN_BYTES} bytes")
        failures: list[str] = []
        while len(failures) < 2:
            try:
                jail = self._jail(kind)
                if program:
                    jail.load(program)
                answer = jail.run(body, limits, room, mode, stdin)
            except JailLostError as error:
                failures.append(str(error))
                self._discard(kind)
                continue
            except BaseException:  # interrupted between request and answer: the jail is out of step
                self._discard(kind)
                raise
            if problem := answer.foul_play:
                failures.append(problem)
                self._discard(kind)
            elif answer.ending is Ending.OUT_OF_WALL_TIME and second_chance:
                second_chance, limits = False, limits.patient()
            else:
                return answer
        return Refusal(Verdict.INFRASTRUCTURE, "; then: ".join(failures))

    def compiled(self, language: Language, source: str, files: Mapping[str, str]) -> bytes:
        """The native program that the source makes; the last few are kept.

        Raises:
            CompilationError: the compiler refuses it.
            JailLostError: the sandbox failed, twice.
            NoCompilerError: it is not installed here.
            UserError: no acceptable isolation for a compiler.
        """
        if not self.started:
            self._jail("native")  # shows which level there is
        key = (language.name, source, *(text for item in sorted(files.items()) for text in item))
        if key not in self._compiled:
            self._compiled[key] = self._compile(language, source, files)
            while len(self._compiled) > _COMPILED_KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        program = self._compiled[key]
        if isinstance(program, CompilationError):
            raise program
        return program

    def _compile(self, language: Language, source: str, files: Mapping[str, str]) -> bytes | CompilationError:
        try:
            try:
                return compile_program(language, source, files, self.level, self._nsjail)
            except JailLostError:
                return compile_program(language, source, files, self.level, self._nsjail, patient=True)
        except CompilationError as error:
            return error

    def _jail(self, kind: Kind) -> Jail:
        jail = self.running.get(kind)
        if jail is not None and jail.runs >= RUNS_PER_ZYGOTE:
            self._discard(kind)
            jail = None
        if jail is None:
            jail = self._start(kind)
        return jail

    def _start(self, kind: Kind) -> Jail:
        """A proved jail at the strongest level that starts; later jails stay at that level."""
        refusals = []
        for level in self._levels:
            try:
                jail = self._start_at(level, kind)
            except JailUnavailableError as error:
                refusals.append(f"{level}: {error}")
                continue
            self.running[kind] = jail
            try:
                prove(jail, thorough=kind not in self._proved)
            except JailNotTightError as error:
                self._discard(kind)
                raise NoIsolationError(
                    f"the sandbox at level {level} fails its self-test: {error}",
                    "untrusted code must not run in a jail that lets it out",
                    "report this host's kernel and settings; to use another level, name it explicitly",
                ) from None
            if refusals:
                self.weaker = f"isolation is {level}, as a stronger one cannot be had here: {'; '.join(refusals)}"
            self._levels = (level,)
            self._proved.add(kind)
            return jail
        if self._proved:  # it worked before: the host is short of something, not unfit
            raise JailLostError("no new jail could be started: " + "; ".join(refusals))
        raise NoIsolationError(
            "no isolation for untrusted code: " + "; ".join(refusals),
            f"at least {self._levels[-1]} is required",
            "see docs/sandbox.md for what each level needs, or ask explicitly for a weaker one",
        )

    def _start_at(self, level: Level, kind: Kind) -> Jail:
        """Twice before a level is given up: the first may have been killed by something outside."""
        try:
            return start_jail(level, kind, self._hash_seed, self._nsjail, self.folder)
        except JailUnavailableError:
            return start_jail(level, kind, self._hash_seed, self._nsjail, self.folder)

    def _discard(self, kind: Kind) -> None:
        jail = self.running.pop(kind, None)
        if jail is not None:
            jail.close()
