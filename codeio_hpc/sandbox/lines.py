"""One JSON line of ``codeio exec``: from text to a request, from a result to text."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.comparators import Comparator
from codeio_hpc.sandbox.languages import find_language
from codeio_hpc.sandbox.policy import MAX_DEPTH, PROGRAM_LIMITS, Limits
from codeio_hpc.sandbox.request import (
    Checker,
    Execution,
    FunctionRequest,
    FunctionResult,
    Generator,
    ProgramRequest,
    ProgramResult,
    ProgramRun,
    ProgramTest,
    TraceEvent,
    TraceLimits,
)
from codeio_hpc.sandbox.values import TOLERANCES, JsonValue, NotJsonError, check_json, dump_json, parse_json
from codeio_hpc.sandbox.verdicts import Verdict

MAX_LINE_BYTES = 64 * 2**20

Types = dict[str, tuple[type, ...]]
_JSON_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a whole number"}
_JSON_NAMES |= {float: "a number", type(None): "null"}

_EITHER: Types = {
    "id": (str, int),
    "limits": (dict,),
    "seed": (int,),
    "trace": (bool, dict),
}
_FUNCTION: Types = _EITHER | {
    "code": (str,),
    "entry_point": (str,),
    "inputs": (list,),
    "expected": (list,),
    "generator": (dict,),
    "check_determinism": (bool,),
    "tolerance": (str,),
    "non_finite": (bool,),
}
_PROGRAM: Types = _EITHER | {
    "program": (str,),
    "language": (str,),
    "tests": (list,),
    "comparator": (str, dict),
    "checker": (dict,),
    "stop_at_failure": (bool,),
    "keep_bytes": (int,),
}
_GENERATOR: Types = {
    "code": (str,),
    "entry_point": (str,),
    "count": (int,),
    "attempts": (int,),
    "seed": (int,),
}
_TEST: Types = {"stdin": (str,), "stdout": (str,)}
_COMPARATOR: Types = {"rule": (str,), "tolerance": (float, int), "ignore_case": (bool,), "any_order": (bool,)}
_CHECKER: Types = {"code": (str,), "language": (str,), "files": (dict,), "limits": (dict,)}
_TRACE: Types = {"events": (int,), "bytes": (int,), "seconds": (float, int)}


class MalformedLineError(ValueError):
    """A line that is no request; carries its id as far as it could be read."""

    def __init__(self, reason: str, identifier: JsonValue = None) -> None:
        super().__init__(reason)
        self.identifier = identifier


@dataclass(frozen=True, slots=True)
class LineRequest:
    """What one line asks for."""

    identifier: JsonValue
    """As written: a string or an integer."""
    request: FunctionRequest | ProgramRequest
    check_determinism: bool = False

    @property
    def longest_seconds(self) -> float:
        """CPU time that it may take at most."""
        request = self.request
        if isinstance(request, ProgramRequest):
            return len(request.tests) * request.limits.cpu_seconds
        count = request.generator.count if request.generator else len(request.inputs or [])
        return (1 + self.check_determinism) * count * (request.limits or Limits()).cpu_seconds


def read_line(text: str, changes: Mapping[str, object]) -> LineRequest:
    """Parse a line.

    Args:
        changes: limits that it need not set itself, by name; they replace the defaults of functions and of programs.

    Raises:
        MalformedLineError: with the reason, for the result line.
    """
    try:
        row = parse_json(text, MAX_LINE_BYTES, MAX_DEPTH + 8, non_finite=True)
    except NotJsonError as error:
        raise MalformedLineError(f"not a JSON line: {error}") from None
    if not isinstance(row, dict):
        raise MalformedLineError("a request is a JSON object")
    fields: dict[str, Any] = row
    identifier = fields.get("id")
    if not fields.get("non_finite"):
        try:
            check_json(row, MAX_DEPTH + 8)
        except NotJsonError as error:
            raise MalformedLineError(f"not JSON: {error}; set non_finite to allow it", identifier) from None
    try:
        return _request(fields, changes)
    except UserError as error:
        raise MalformedLineError(f"{error.found}: {error.why}; {error.fix}", identifier) from None
    except ValueError as error:
        raise MalformedLineError(str(error), identifier) from None


def _request(row: dict[str, Any], changes: Mapping[str, object]) -> LineRequest:
    row = {name: value for name, value in row.items() if value is not None}
    is_program = "program" in row
    if is_program and "code" in row:
        raise ValueError("a line is a function ('code') or a program ('program'), not both")
    _check_types(row, _PROGRAM if is_program else _FUNCTION, "")
    for name in ("id", "program", "tests") if is_program else ("id", "code"):
        if name not in row:
            raise ValueError(f"the request has no {name!r}")
    changes = {**changes, **row.get("limits", {})}
    trace = row.get("trace", False)
    if isinstance(trace, dict):
        _check_types(trace, _TRACE, "trace.")
        trace = TraceLimits(**trace)
    if is_program:
        return LineRequest(row["id"], _program(row, PROGRAM_LIMITS.updated(changes), trace))
    function = _function(row, Limits().updated(changes), trace)
    return LineRequest(row["id"], function, row.get("check_determinism", False))


def _function(row: dict[str, Any], limits: Limits, trace: bool | TraceLimits) -> FunctionRequest:
    generator = row.get("generator")
    if generator is not None:
        _check_types(generator, _GENERATOR, "generator.")
    if row.get("tolerance", "default") not in TOLERANCES:
        raise ValueError(f"tolerance {row['tolerance']!r} is none of {', '.join(TOLERANCES)}")
    return FunctionRequest(
        id=str(row["id"]),
        code=row["code"],
        entry_point=row.get("entry_point", "main_solution"),
        inputs=row.get("inputs"),
        generator=Generator(**generator) if generator is not None else None,
        expected=row.get("expected"),
        trace=trace,
        limits=limits,
        seed=row.get("seed", 0),
        tolerance=TOLERANCES[row.get("tolerance", "default")],
        non_finite=row.get("non_finite", False),
    )


def _program(row: dict[str, Any], limits: Limits, trace: bool | TraceLimits) -> ProgramRequest:
    tests = []
    for place, test in enumerate(row["tests"]):
        if not isinstance(test, dict):
            raise ValueError(f"tests[{place}] is {_JSON_NAMES[type(test)]}, not an object")
        test = {name: value for name, value in test.items() if value is not None}
        _check_types(test, _TEST, f"tests[{place}].")
        tests.append(ProgramTest(**test))
    comparator = row.get("comparator", {})
    if isinstance(comparator, str):
        comparator = {"rule": comparator}
    _check_types(comparator, _COMPARATOR, "comparator.")
    checker = row.get("checker")
    if checker is not None:
        _check_types(checker, _CHECKER, "checker.")
        if "code" not in checker:
            raise ValueError("the checker has no 'code'")
        files = checker.get("files", {})
        _check_types(files, dict.fromkeys(files, (str,)), "checker.files.")
        checker = Checker(**{**checker, "limits": PROGRAM_LIMITS.updated(checker.get("limits", {}))})
    return ProgramRequest(
        id=str(row["id"]),
        program=row["program"],
        tests=tests,
        language=find_language(row.get("language", "python")).name,
        comparator=Comparator(**comparator),
        checker=checker,
        stop_at_failure=row.get("stop_at_failure", False),
        keep_bytes=row.get("keep_bytes", 65_536),
        trace=trace,
        limits=limits,
        seed=row.get("seed", 0),
    )


def _check_types(row: dict[str, Any], types: Types, prefix: str) -> None:
    for name, value in row.items():
        if name not in types:
            close = difflib.get_close_matches(name, types, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(types)}"
            raise ValueError(f"unknown key {prefix}{name!r}{hint}")
        if type(value) not in types[name]:
            wanted = " or ".join(_JSON_NAMES[kind] for kind in types[name])
            raise ValueError(f"{prefix}{name} is {_JSON_NAMES[type(value)]}, not {wanted}")


def write_result(request: LineRequest, result: FunctionResult | ProgramResult) -> str:
    """The result line."""
    if isinstance(result, ProgramResult):
        return dump_json(_program_line(request.identifier, result))
    assert isinstance(request.request, FunctionRequest)
    return dump_json(_function_line(request.identifier, result), request.request.non_finite)


def _function_line(identifier: JsonValue, result: FunctionResult) -> dict[str, JsonValue]:
    """``output`` is there exactly if there was one; ``input`` if a generator made it."""
    line: dict[str, JsonValue] = {
        "id": identifier,
        "results": [_execution(one, result.generation is not None) for one in result.results],
        "isolation": result.isolation,
    }
    if result.generation is not None:
        made = result.generation
        line["generator"] = {
            "verdict": made.verdict.value,
            "error": made.error,
            "attempts": made.attempts,
            "failed": made.failed,
        }
    return line


def _execution(one: Execution, with_input: bool) -> dict[str, JsonValue]:
    fields: dict[str, JsonValue] = {"verdict": one.verdict.value}
    if with_input:
        fields["input"] = one.input
    if one.verdict is Verdict.OK:
        fields["output"] = one.output
    if one.error is not None:
        fields["error"] = one.error
    if one.correct is not None:
        fields["correct"] = one.correct
    return fields | {"cpu_ms": one.cpu_ms, "wall_ms": one.wall_ms} | _trace(one.trace, one.trace_complete)


def _program_line(identifier: JsonValue, result: ProgramResult) -> dict[str, JsonValue]:
    line: dict[str, JsonValue] = {
        "id": identifier,
        "correct": result.correct,
        "results": [_test(one) for one in result.results],
        "judge": result.judge,
        "isolation": result.isolation,
    }
    if result.compile_error is not None:
        line["compile_error"] = result.compile_error
    return line


def _test(one: ProgramRun) -> dict[str, JsonValue]:
    fields: dict[str, JsonValue] = {"verdict": one.verdict.value, "stdout": one.stdout.decode("utf-8", "replace")}
    if one.stdout_bytes > len(one.stdout):
        fields["stdout_bytes"] = one.stdout_bytes
    if one.stderr:
        fields["stderr"] = one.stderr.decode("utf-8", "replace")
    if one.error is not None:
        fields["error"] = one.error
    if one.correct is not None:
        fields["correct"] = one.correct
    if one.exit_code is not None:
        fields["exit_code"] = one.exit_code
    fields |= {"cpu_ms": one.cpu_ms, "wall_ms": one.wall_ms, "memory_bytes": one.memory_bytes}
    return fields | _trace(one.trace, one.trace_complete)


def _trace(trace: tuple[TraceEvent, ...] | None, complete: bool) -> dict[str, JsonValue]:
    return {} if trace is None else {"trace": [asdict(event) for event in trace], "trace_complete": complete}


def write_malformed(number: int, error: MalformedLineError) -> str:
    """The result line of a line that is no request."""
    reason = f"line {number}: {error}"
    failed: dict[str, JsonValue] = {
        "verdict": Verdict.INFRASTRUCTURE.value,
        "error": reason,
        "cpu_ms": 0.0,
        "wall_ms": 0.0,
    }
    identifier = error.identifier if isinstance(error.identifier, str | int) else None
    return dump_json({"id": identifier, "results": [failed], "isolation": None})
