"""A worker's jails: one for each kind of code, started when first needed, replaced when they age or die."""

from __future__ import annotations

import json
from dataclasses import replace
from types import TracebackType
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.jail import Jail, JailUnavailableError, start_jail
from codeio_hpc.sandbox.policy import (
    LEVELS,
    MAX_REQUEST_BYTES,
    RUNS_PER_ZYGOTE,
    Kind,
    Level,
    Limits,
    kind_of,
    level_index,
)
from codeio_hpc.sandbox.protocol import Answer, Ending, JailLostError
from codeio_hpc.sandbox.reading import generation_of, read_execution, read_together
from codeio_hpc.sandbox.request import Execution, FunctionRequest, FunctionResult, Generation, Generator, TraceLimits
from codeio_hpc.sandbox.selftest import JailNotTightError, prove
from codeio_hpc.sandbox.values import JsonValue, NotJsonError, check_json, dump_json, equal
from codeio_hpc.sandbox.verdicts import Verdict

MAX_TIMEOUTS = 2
"""A function's remaining inputs are not run after so many: a 5 s timeout costs as much as 1,700 good runs."""

TOGETHER_SECONDS = 1.0
"""CPU time of a process that several inputs share: what is slow gains little by sharing."""

_MOST_ROOM = 2**25
"""Bytes of an answer that holds several values."""

_ENVELOPE = 2**16
"""Room in an answer for everything but the output and the trace."""


class Pool:
    """One worker's sandbox. Use from one thread at a time; close it, or use it as a context.

    Args:
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

        self.limits = limits or Limits()
        self.hash_seed = hash_seed
        self._nsjail = nsjail
        weakest = level_index(level or minimum)
        refuse_weak_isolation(LEVELS[weakest])
        self._levels = (LEVELS[weakest],) if level else LEVELS[: weakest + 1]
        self._jails: dict[Kind, Jail] = {}
        self._proved: set[Kind] = set()

    @property
    def isolation(self) -> Level | None:
        """The level in use; None before the first jail has started."""
        return self._levels[0] if self._proved else None

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all jails. The pool can be used again; it then starts new ones."""
        for kind in list(self._jails):
            self._discard(kind)

    def run(self, request: FunctionRequest) -> FunctionResult:
        """Execute a function on its inputs, each in a process of its own unless they are to run together.

        Raises:
            UserError: no acceptable isolation here.
        """
        source = request.generator.code if request.generator else None
        kind = request.kind or kind_of(request.code, source)
        shared = self._together(request, kind) if request.together else None
        results, generation = shared or self._apart(request, kind)
        tolerance = replace(request.tolerance, nan_equal=request.non_finite or request.tolerance.nan_equal)
        if request.expected is not None:
            for place, (result, expected) in enumerate(zip(results, request.expected, strict=True)):
                right = result.verdict is Verdict.OK and equal(result.output, expected, tolerance)
                results[place] = replace(result, correct=right)
        return FunctionResult(request.id, results, self._levels[0], generation, shared is not None)

    def _apart(self, request: FunctionRequest, kind: Kind) -> tuple[list[Execution], Generation | None]:
        """The generator, and then each input, in a process of its own."""
        inputs, generation = self._inputs(request, kind)
        results: list[Execution] = []
        timeouts = 0
        for value in inputs:
            if timeouts >= MAX_TIMEOUTS:
                result = Execution(Verdict.TIMEOUT, value, error=f"not run: {MAX_TIMEOUTS} inputs timed out before it")
            else:
                result = self._execute(request, kind, value)
                timeouts += result.verdict is Verdict.TIMEOUT
            results.append(result)
        return results, generation

    def _together(self, request: FunctionRequest, kind: Kind) -> tuple[list[Execution], Generation | None] | None:
        """The generator and all inputs in one process; None where that does not end well."""
        limits = request.limits or self.limits
        shared = replace(limits, cpu_seconds=min(limits.cpu_seconds, TOGETHER_SECONDS))
        inputs, generator, texts = None, None, None
        if request.generator is not None:
            generator, count = self._generator(request, request.generator, limits), request.generator.count
        else:
            inputs, count = list(request.inputs or []), len(request.inputs or [])
            try:
                for value in inputs:
                    check_json(value, non_finite=request.non_finite)
            except NotJsonError:
                return None
            texts = [dump_json(value, request.non_finite) for value in inputs]
        task = self._task("call_all", request, limits) | {"inputs": texts, "generator": generator}
        room = min(8 * count * limits.output_bytes, _MOST_ROOM) + _ENVELOPE
        answer = self._attempt(kind, task, shared, room, second_chance=False)
        if isinstance(answer, Execution):
            return None
        return read_together(answer, limits, inputs, room, request.non_finite)

    def _task(self, what: str, request: FunctionRequest, limits: Limits) -> dict[str, Any]:
        return {
            "kind": what,
            "code": request.code,
            "entry_point": request.entry_point,
            "seed": f"{request.seed}:{self.hash_seed}",
            "output_bytes": limits.output_bytes,
            "non_finite": request.non_finite,
        }

    @staticmethod
    def _generator(request: FunctionRequest, generator: Generator, limits: Limits) -> dict[str, Any]:
        return {
            "kind": "generate",
            "code": generator.code if generator.code is not None else request.code,
            "entry_point": generator.entry_point,
            "count": generator.count,
            "attempts": generator.attempts,
            "seed": str(generator.seed),
            "cpu_seconds": 0.8 * limits.cpu_seconds,  # stop in time, with what there is by then
            "wall_seconds": 0.8 * limits.wall,
            "output_bytes": limits.output_bytes,
            "non_finite": request.non_finite,
        }

    def _inputs(self, request: FunctionRequest, kind: Kind) -> tuple[list[JsonValue], Generation | None]:
        if request.generator is None:
            return list(request.inputs or []), None
        generator = request.generator
        limits = request.limits or self.limits
        task = self._generator(request, generator, limits)
        room = min(generator.count * 2 * limits.output_bytes, _MOST_ROOM) + _ENVELOPE
        answer = self._attempt(kind, task, limits, room)
        if isinstance(answer, Execution):
            return [], Generation(answer.verdict, answer.error, 0, 0, answer.cpu_ms, answer.wall_ms)
        return generation_of(answer, room, limits.output_bytes, request.non_finite)

    def _execute(self, request: FunctionRequest, kind: Kind, value: JsonValue) -> Execution:
        """One input, with the second chances that wall time and a failing sandbox get."""
        try:
            check_json(value, non_finite=request.non_finite)
        except NotJsonError as error:
            return Execution(Verdict.NOT_JSON, None, error=f"the input: {error}")
        text = dump_json(value, request.non_finite)
        limits = request.limits or self.limits
        trace = TraceLimits() if request.trace is True else request.trace or None
        task = self._task("call", request, limits) | {
            "input": text,
            "trace": {"events": trace.events, "bytes": trace.bytes} if trace else None,
        }
        # \uXXXX makes six bytes of one character; the length of the value itself is checked when it is read
        room = 6 * (limits.output_bytes + (trace.bytes if trace else 0)) + _ENVELOPE
        answer = self._attempt(kind, task, limits, room)
        if isinstance(answer, Execution):
            return replace(answer, input=value)
        return replace(read_execution(answer, limits, room, request.non_finite), input=value)

    def _attempt(
        self, kind: Kind, task: dict[str, Any], limits: Limits, room: int, second_chance: bool = True
    ) -> Answer | Execution:
        """Run a task. A failure of the sandbox is tried once more before it counts, and so is (with a second chance)
        running out of wall time, which a busy node can cause; of CPU time it cannot."""
        try:
            body = json.dumps(task).encode()
        except (ValueError, TypeError, RecursionError) as error:
            return Execution(Verdict.NOT_JSON, error=f"the request cannot be sent: {error}")
        if len(body) > MAX_REQUEST_BYTES:
            return Execution(Verdict.TOO_LARGE, error=f"code and input together exceed {MAX_REQUEST_BYTES} bytes")
        failures: list[str] = []
        while len(failures) < 2:
            try:
                answer = self._jail(kind).run(body, limits, room)
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
        return Execution(Verdict.INFRASTRUCTURE, error="; then: ".join(failures))

    def _jail(self, kind: Kind) -> Jail:
        jail = self._jails.get(kind)
        if jail is not None and jail.runs >= RUNS_PER_ZYGOTE:
            self._discard(kind)
            jail = None
        if jail is None:
            jail = self._start(kind)
        return jail

    def _start(self, kind: Kind) -> Jail:
        """A proved jail at the strongest level that starts; later jails of this pool stay at that level."""
        refusals = []
        for level in self._levels:
            try:
                jail = start_jail(level, kind, self.hash_seed, self._nsjail)
            except JailUnavailableError as error:
                refusals.append(f"{level}: {error}")
                continue
            self._jails[kind] = jail
            try:
                prove(jail, thorough=kind not in self._proved)
            except JailNotTightError as error:
                self._discard(kind)
                raise UserError(
                    f"the sandbox at level {level} fails its self-test: {error}",
                    "untrusted code must not run in a jail that lets it out",
                    "report this host's kernel and settings; to use another level, name it explicitly",
                ) from None
            self._levels = (level,)
            self._proved.add(kind)
            return jail
        if self._proved:  # it worked before: the host is short of something, not unfit
            raise JailLostError("no new jail could be started: " + "; ".join(refusals))
        raise UserError(
            "no isolation for untrusted code: " + "; ".join(refusals),
            f"at least {self._levels[-1]} is required",
            "see docs/sandbox.md for what each level needs, or ask explicitly for a weaker one",
        )

    def _discard(self, kind: Kind) -> None:
        jail = self._jails.pop(kind, None)
        if jail is not None:
            jail.close()
