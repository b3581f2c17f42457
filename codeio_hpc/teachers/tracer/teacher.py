"""The tracer as a teacher."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from codeio_hpc.sandbox import Execution, FunctionRequest, Pool, TraceLimits, Verdict, dump_json, equal
from codeio_hpc.teachers.base import NoAnswerError, Request
from codeio_hpc.teachers.judge import shorten
from codeio_hpc.teachers.tracer.account import conditions, result_of, tell

_TRIES = 4
"""Attempts at an input that is really wrong: many changed inputs give the same output."""

_MAX_TIMEOUTS = 2
_EVENTS, _BYTES = 600, 2**18
"""What a run may consist of that is told; nobody follows more by reading, even summed up."""
_SHOWN = 60
"""Characters of a wrong candidate's output."""


class TracingFailedError(Exception):
    """The sandbox failed, not the code: the shard must be tried again."""


class Tracer:
    """Explains the real execution of the question's code, and errs at a seeded rate when told to.

    Errors get rarer by the turn: turn *n* is wrong with probability ``error_rate`` to the power *n*.
    """

    def __init__(self, pool: Pool, error_rate: float, candidates: int, chance: Callable[[str], random.Random]) -> None:
        self._pool = pool
        self._error_rate = error_rate
        self._candidates = candidates
        self._chance = chance
        self._last: tuple[str, Execution] | None = None
        self._timeouts: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """Who answers."""
        return "tracer-4"

    @property
    def sampling(self) -> Mapping[str, Any]:
        """The rate of errors, and how many wrong inputs are tried before the right one."""
        return {"error_rate": self._error_rate, "candidates": self._candidates}

    def answer(self, request: Request) -> str:
        """A short account of the run, and the answer as JSON on the last line.

        Raises:
            NoAnswerError: ``not_traceable``: the code did not give its stored output under the tracer;
                ``too_many_steps``.
            TracingFailedError: the sandbox failed.
        """
        row = request.row
        chance = self._chance(f"{row['instance_id']}/{request.turn}")
        errs = chance.random() < self._error_rate**request.turn
        if row["direction"] == "function":
            return _find_function(row, errs)
        execution = self._execution(row)
        steps = tell(row["code"], execution.trace or ())
        predict = self._predict_output if row["direction"] == "output" else self._predict_input
        response = predict(row, steps, chance if errs else None)
        if errs and response.rpartition("\n")[2] in _answers_before(request):
            return predict(row, steps, None)  # nobody gives the same wrong answer twice
        return response

    def _predict_output(self, row: Mapping[str, Any], steps: list[str], chance: random.Random | None) -> str:
        value = json.loads(row["output"])
        if chance is not None:
            value = _different(value, chance)
        text = dump_json(value)
        return _lines(f"Start with {_given(row)}.", *steps, f"So the output is {text}.", f'{{"output": {text}}}')

    def _predict_input(self, row: Mapping[str, Any], steps: list[str], chance: random.Random | None) -> str:
        """From the output backwards to what must be so, then candidates, then a check of the last one."""
        value = json.loads(row["input"])
        execution = self._execution(row)
        trace = execution.trace or ()
        expression = result_of(row["code"], trace)
        backwards = [f"It comes from {expression}."] if expression else []
        met = conditions(row["code"], trace)
        backwards += [f"One way there: {'; '.join(met)}."] if met else []
        if self._candidates and chance is None:
            backwards += self._failed_candidates(row, value)
        if chance is not None:
            found = self._other_input(row, value, chance)
            value = value if found is None else found[0]
        text = dump_json(value)
        wanted = f"The output must be {row['output']}."
        end = (f"That gives {row['output']}.", f'{{"input": {text}}}')
        return _lines(wanted, *backwards, f"Try {text}.", *steps, *end)

    def _failed_candidates(self, row: Mapping[str, Any], value: dict[str, Any]) -> list[str]:
        """Inputs near the right one that were tried and give something else."""
        told: list[str] = []
        chance = self._chance(f"{row['instance_id']}/candidates")
        for _ in range(self._candidates):
            other = self._other_input(row, value, chance)
            if other is not None:
                line = f"Not {dump_json(other[0])}: that gives {shorten(dump_json(other[1]), _SHOWN)}."
                told += [line] if line not in told else []
        return told

    def _other_input(
        self, row: Mapping[str, Any], value: dict[str, Any], chance: random.Random
    ) -> tuple[dict[str, Any], Any] | None:
        """A changed input and the other output that it gives; None if none was found."""
        expected = json.loads(row["output"])
        for _ in range(_TRIES if value else 0):
            changed: dict[str, Any] = _different(value, chance)
            request = FunctionRequest(
                id=row["instance_id"],
                code=row["code"],
                entry_point=row["entry_point"],
                inputs=[changed],
                kind=row["kind"],
            )
            ending = self._pool.run(request).results[0]
            if ending.verdict is Verdict.OK and not equal(ending.output, expected):
                return changed, ending.output
        return None

    def _execution(self, row: Mapping[str, Any]) -> Execution:
        """The traced run of the row's pair; both directions of a pair follow each other and share it.

        Tracing slows code down, and a run that takes nearly all of its time without it may time out with it; after two
        such pairs the function's others are not tried.
        """
        if self._last is None or self._last[0] != row["pair_id"]:
            self._last = (row["pair_id"], self._trace(row))
        execution = self._last[1]
        if execution.verdict is not Verdict.OK or not equal(execution.output, json.loads(row["output"])):
            raise NoAnswerError("not_traceable", f"{execution.verdict}: {execution.error or 'another output'}")
        if not execution.trace_complete:
            raise NoAnswerError("too_many_steps", "its run is too long to be told")
        return execution

    def _trace(self, row: Mapping[str, Any]) -> Execution:
        if self._timeouts[row["function_id"]] >= _MAX_TIMEOUTS:
            return Execution(Verdict.TIMEOUT, error=f"not run: {_MAX_TIMEOUTS} pairs of its function timed out before")
        request = FunctionRequest(
            id=row["instance_id"],
            code=row["code"],
            entry_point=row["entry_point"],
            inputs=[json.loads(row["input"])],
            kind=row["kind"],
            trace=TraceLimits(events=_EVENTS, bytes=_BYTES),
        )
        execution = self._pool.run(request).results[0]
        if execution.verdict is Verdict.INFRASTRUCTURE:
            raise TracingFailedError(f"{row['instance_id']}: {execution.error}")
        self._timeouts[row["function_id"]] += execution.verdict is Verdict.TIMEOUT
        return execution


def _answers_before(request: Request) -> set[str]:
    """The last lines of the responses that were given to earlier turns."""
    return {said["content"].rpartition("\n")[2] for said in request.messages if said["role"] == "assistant"}


def _find_function(row: Mapping[str, Any], errs: bool) -> str:
    """The reference code, checked against the examples; or code that gives the first example's output always."""
    shown = json.loads(row["examples"])["shown"]
    code = row["code"].strip()
    checks = [f"For {given} it gives {output}, as shown." for given, output in shown]
    if errs:
        names = ", ".join(json.loads(row["input"]))
        code = f"def {row['entry_point']}({names}):\n    return {json.loads(shown[0][1])!r}"
        checks = checks[:1]
    return _lines("This code fits the examples:", f"```python\n{code}\n```", *checks)


def _different(value: Any, chance: random.Random) -> Any:
    from codeio_hpc.teachers.tracer.mistakes import mistaken

    for _ in range(8):
        wrong = mistaken(value, chance)
        if not equal(wrong, value):
            return wrong
    return value


def _given(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {dump_json(value)}" for name, value in json.loads(row["input"]).items()) or "nothing"


def _lines(*lines: str) -> str:
    return "\n".join(lines)
