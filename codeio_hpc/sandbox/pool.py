"""One worker's sandbox: functions and programs in, what came of them out."""

from __future__ import annotations

from types import TracebackType

from codeio_hpc.sandbox.checkers import Checkers
from codeio_hpc.sandbox.functions import Functions
from codeio_hpc.sandbox.jails import Jails
from codeio_hpc.sandbox.policy import LEVELS, Level, Limits, level_index
from codeio_hpc.sandbox.programs import Programs
from codeio_hpc.sandbox.request import FunctionRequest, FunctionResult, ProgramRequest, ProgramResult


class Pool:
    """One worker's sandbox. Use from one thread at a time; close it, or use it as a context.

    Args:
        limits: of functions that name none; programs have defaults of their own.
        minimum: the weakest isolation level that is accepted.
        hash_seed: ``PYTHONHASHSEED`` of the interpreters inside; also changes the seed of global random numbers, so
            that a second pool under another hash seed shows what is not deterministic.
        level: exactly this level instead of the strongest that this host gives.
        nsjail: path of the nsjail binary, instead of looking for one.

    Raises:
        UserError: (when first used) no isolation level of at least ``minimum`` can be had here, or the jail fails
            its self-test.
        UserError: the policy of this machine demands more than ``minimum``.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        minimum: str = "landlock+seccomp",
        hash_seed: int = 0,
        level: str | None = None,
        nsjail: str | None = None,
    ) -> None:
        from codeio_hpc.config.policy import refuse_weak_isolation  # brings pydantic, which the rest does without

        weakest = level_index(level or minimum)
        refuse_weak_isolation(LEVELS[weakest])
        levels = (LEVELS[weakest],) if level else LEVELS[: weakest + 1]
        self.limits = limits or Limits()
        self.hash_seed = hash_seed
        self.jails = Jails(levels, hash_seed, nsjail)
        self._functions = Functions(self.jails, self.limits, hash_seed)
        self._checkers = Checkers(levels, hash_seed, nsjail)
        self._programs = Programs(self.jails, hash_seed, self._checkers)

    @property
    def isolation(self) -> Level | None:
        """The level in use; None before the first jail has started."""
        return self.jails.level if self.jails.started else None

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all jails. The pool can be used again; it then starts new ones."""
        self.jails.close()
        self._checkers.close()

    def run(self, request: FunctionRequest) -> FunctionResult:
        """Execute a function on its inputs, each in a process of its own unless they are to run together.

        Raises:
            UserError: no acceptable isolation here.
        """
        return self._functions.run(request)

    def run_program(self, request: ProgramRequest) -> ProgramResult:
        """Run a program on its tests, each in a process of its own, and judge what it printed.

        Raises:
            UserError: no acceptable isolation here; no compiler for the language.
        """
        return self._programs.run(request)
