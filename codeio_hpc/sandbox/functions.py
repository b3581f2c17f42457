"""Functions and their inputs: generated or given, executed apart or together, compared outside."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from codeio_hpc.sandbox.jail.protocol import Answer
from codeio_hpc.sandbox.jails import Jails, Refusal
from codeio_hpc.sandbox.policy import Kind, Limits, kind_of
from codeio_hpc.sandbox.reading import generation_of, read_execution, read_together
from codeio_hpc.sandbox.request import Execution, FunctionRequest, FunctionResult, Generation, Generator, TraceLimits
from codeio_hpc.sandbox.values import JsonValue, NotJsonError, check_json, dump_json, equal
from codeio_hpc.sandbox.verdicts import Verdict

MAX_TIMEOUTS = 2
"""A function's remaining inputs are not run after so many: a 5 s timeout costs as much as 1,700 good runs."""

TOGETHER_SECONDS = 1.0
"""CPU time of a process that several inputs share: what is slow gains little by sharing."""

_MOST_ROOM = 2**24
"""Bytes of an answer that holds several values."""

_ENVELOPE = 2**16
"""Room in an answer for everything but the output and the trace."""


class Functions:
    """Executes function requests in the jails of one worker."""

    def __init__(self, jails: Jails, limits: Limits, hash_seed: int) -> None:
        self.jails, self.limits, self.hash_seed = jails, limits, hash_seed

    def run(self, request: FunctionRequest) -> FunctionResult:
        """As ``Pool.run``."""
        source = request.generator.code if request.generator else None
        kind = request.kind or kind_of(request.code, source)
        shared = self._together(request, kind) if request.together else None
        results, generation = shared or self._apart(request, kind)
        tolerance = replace(request.tolerance, nan_equal=request.non_finite or request.tolerance.nan_equal)
        if request.expected is not None:
            for place, (result, expected) in enumerate(zip(results, request.expected, strict=True)):
                right = result.verdict is Verdict.OK and equal(result.output, expected, tolerance)
                results[place] = replace(result, correct=right)
        return FunctionResult(request.id, results, self.jails.level, generation, shared is not None)

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
        if isinstance(answer, Refusal):
            return None
        return read_together(answer, limits, count if inputs is None else inputs, room, request.non_finite)

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
        if isinstance(answer, Refusal):
            return [], Generation(answer.verdict, answer.error, 0, 0, 0.0, 0.0)
        return generation_of(answer, room, limits, generator.count, request.non_finite)

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
            "trace": asdict(trace) if trace else None,
        }
        # \uXXXX makes six bytes of one character; the length of the value itself is checked when it is read
        room = 6 * (limits.output_bytes + (trace.bytes if trace else 0)) + _ENVELOPE
        answer = self._attempt(kind, task, limits, room)
        if isinstance(answer, Refusal):
            return Execution(answer.verdict, value, error=answer.error)
        events = trace.events if trace else 0
        return replace(read_execution(answer, limits, room, request.non_finite, events), input=value)

    def _attempt(
        self, kind: Kind, task: dict[str, Any], limits: Limits, room: int, second_chance: bool = True
    ) -> Answer | Refusal:
        try:
            body = json.dumps(task).encode()
        except (ValueError, TypeError, RecursionError) as error:
            return Refusal(Verdict.NOT_JSON, f"the request cannot be sent: {error}")
        return self.jails.attempt(kind, body, limits, room, second_chance=second_chance)
