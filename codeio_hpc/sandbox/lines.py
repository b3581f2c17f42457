"""One JSON line of ``codeio exec``: from text to a request, from a result to text."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.policy import MAX_DEPTH, Limits
from codeio_hpc.sandbox.request import Execution, FunctionRequest, FunctionResult, Generator
from codeio_hpc.sandbox.values import TOLERANCES, JsonValue, NotJsonError, check_json, dump_json, parse_json
from codeio_hpc.sandbox.verdicts import Verdict

MAX_LINE_BYTES = 64 * 2**20

_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str, int),
    "code": (str,),
    "entry_point": (str,),
    "inputs": (list,),
    "expected": (list,),
    "generator": (dict,),
    "check_determinism": (bool,),
    "limits": (dict,),
    "seed": (int,),
    "tolerance": (str,),
    "non_finite": (bool,),
}
_GENERATOR_TYPES: dict[str, tuple[type, ...]] = {
    "code": (str,),
    "entry_point": (str,),
    "count": (int,),
    "attempts": (int,),
    "seed": (int,),
}


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
    function: FunctionRequest
    check_determinism: bool


def read_line(text: str, limits: Limits) -> LineRequest:
    """Parse a line; ``limits`` are those that it does not set itself.

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
        return _request(fields, limits)
    except UserError as error:
        raise MalformedLineError(f"{error.found}: {error.why}; {error.fix}", identifier) from None
    except ValueError as error:
        raise MalformedLineError(str(error), identifier) from None


def _request(row: dict[str, Any], limits: Limits) -> LineRequest:
    if "program" in row:
        raise ValueError("programs with stdin are not supported by this version; send a function")
    row = {name: value for name, value in row.items() if value is not None}
    _check_types(row, _TYPES, "")
    for name in ("id", "code"):
        if name not in row:
            raise ValueError(f"the request has no {name!r}")
    generator = row.get("generator")
    if generator is not None:
        _check_types(generator, _GENERATOR_TYPES, "generator.")
    if row.get("tolerance", "default") not in TOLERANCES:
        raise ValueError(f"tolerance {row['tolerance']!r} is none of {', '.join(TOLERANCES)}")
    function = FunctionRequest(
        id=str(row["id"]),
        code=row["code"],
        entry_point=row.get("entry_point", "main_solution"),
        inputs=row.get("inputs"),
        generator=Generator(**generator) if generator is not None else None,
        expected=row.get("expected"),
        limits=limits.updated(row.get("limits", {})),
        seed=row.get("seed", 0),
        tolerance=TOLERANCES[row.get("tolerance", "default")],
        non_finite=row.get("non_finite", False),
    )
    return LineRequest(row["id"], function, row.get("check_determinism", False))


def _check_types(row: dict[str, Any], types: dict[str, tuple[type, ...]], prefix: str) -> None:
    for name, value in row.items():
        if name not in types:
            close = difflib.get_close_matches(name, types, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(types)}"
            raise ValueError(f"unknown key {prefix}{name!r}{hint}")
        if type(value) not in types[name]:
            wanted = " or ".join(kind.__name__ for kind in types[name])
            raise ValueError(f"{prefix}{name} is a {type(value).__name__}, not a {wanted}")


def write_result(request: LineRequest, result: FunctionResult) -> str:
    """The result line. ``output`` is there exactly if there was one; ``input`` if a generator made it."""
    line: dict[str, JsonValue] = {
        "id": request.identifier,
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
    return dump_json(line, request.function.non_finite)


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
    return fields | {"cpu_ms": one.cpu_ms, "wall_ms": one.wall_ms}


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
