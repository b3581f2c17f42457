"""What a child sent, made into results. Everything here is written by untrusted code and taken apart as such."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from typing import TypeGuard

from codeio_hpc.sandbox.jail.protocol import Answer, Ending
from codeio_hpc.sandbox.policy import MAX_DEPTH, Limits
from codeio_hpc.sandbox.request import Execution, Generation, ProgramRun, TraceEvent
from codeio_hpc.sandbox.values import JsonValue, NotJsonError, canonical, dump_json, parse_json
from codeio_hpc.sandbox.verdicts import Verdict

_ENDINGS = {
    Ending.OUT_OF_CPU_TIME: Verdict.TIMEOUT,
    Ending.OUT_OF_WALL_TIME: Verdict.TIMEOUT,
    Ending.ANSWER_TOO_LARGE: Verdict.OUTPUT_TOO_LARGE,
}

_BAD_ALLOC, _BAD_ALLOC_WITHIN = b"std::bad_alloc", 200
"""How C++ says at its end that there was no memory."""

_FROM_CHILD = {
    verdict.value: verdict
    for verdict in (
        Verdict.EXCEPTION,
        Verdict.MEMORY,
        Verdict.FORBIDDEN,
        Verdict.NOT_JSON,
        Verdict.OUTPUT_TOO_LARGE,
    )
}
"""What a child may say of itself. Everything else is decided outside it."""


def read_execution(answer: Answer, limits: Limits, room: int, non_finite: bool, events: int) -> Execution:
    """One answer as an execution (without its input). Success is exit code 0 and exactly one document.

    Args:
        events: steps that a trace may have; 0 where none was asked for.
    """
    cpu, wall = round(1000 * answer.cpu_seconds, 3), round(1000 * answer.wall_seconds, 3)
    trace, body = split_trace(answer.body, events) if events else (None, answer.body)
    verdict, error = ended(answer, limits)
    if verdict is not None:
        return Execution(verdict, error=error, cpu_ms=cpu, wall_ms=wall, trace=trace, trace_complete=False)
    document = document_of(body, room, non_finite)
    if isinstance(document, str):
        return Execution(Verdict.NO_RESULT, error=document, cpu_ms=cpu, wall_ms=wall)
    complete = document.get("truncated") is not True
    return replace(_told(document, limits, non_finite, cpu, wall), trace=trace, trace_complete=complete)


def read_together(
    answer: Answer, limits: Limits, inputs: list[JsonValue] | int, room: int, non_finite: bool
) -> tuple[list[Execution], Generation | None] | None:
    """One answer as the executions of several inputs, and how these were made where only their number is given. None
    unless the process ended well, tells of every input, and had memory enough for all of them."""
    document = document_of(answer.body, room, non_finite) if ended(answer, limits)[0] is None else ""
    if isinstance(document, str):
        return None
    generation = None
    if isinstance(inputs, int):
        inputs, generation = _generated(document, limits.output_bytes, inputs, non_finite, 0.0, 0.0)
    results = document.get("results")
    if not isinstance(results, list) or len(results) != len(inputs):
        return None
    wall = round(1000 * answer.wall_seconds / max(1, len(inputs)), 3)
    executions = []
    for result, value in zip(results, inputs, strict=True):
        if not isinstance(result, dict):
            return None
        seconds = result.get("cpu_seconds")
        cpu = round(1000 * seconds, 3) if isinstance(seconds, float) else 0.0
        executions.append(replace(_told(result, limits, non_finite, cpu, wall), input=value))
    short = any(execution.verdict is Verdict.MEMORY for execution in executions)
    return None if short else (executions, generation)


def _told(document: dict[str, JsonValue], limits: Limits, non_finite: bool, cpu: float, wall: float) -> Execution:
    """An execution by the child's own words."""
    status, output = document.get("status"), document.get("output")
    error = _text(document.get("error"))
    verdict = Verdict.NO_RESULT
    if status == "ok" and "output" in document:
        verdict = Verdict.OK
        if len(dump_json(output, non_finite).encode()) > limits.output_bytes:
            verdict, output = Verdict.OUTPUT_TOO_LARGE, None
    else:
        output = None
        verdict = _FROM_CHILD.get(status, verdict) if isinstance(status, str) else verdict
    if verdict is Verdict.OUTPUT_TOO_LARGE:
        error = f"the output is larger than {limits.output_bytes} bytes"
    return Execution(verdict, None, output, error, None, cpu, wall)


def read_test(answer: Answer, limits: Limits, room: int, events: int) -> ProgramRun:
    """One run of a program. It is ``ok`` if it ended by itself with exit code 0; what its child says beside what was
    printed only names the reason of another end."""
    result = ProgramRun(
        Verdict.OK,
        stdout=answer.stdout,
        stdout_bytes=len(answer.stdout),
        stderr=without_host(answer.stderr),
        exit_code=answer.code if answer.ending is Ending.EXITED else None,
        cpu_ms=round(1000 * answer.cpu_seconds, 3),
        wall_ms=round(1000 * answer.wall_seconds, 3),
        memory_bytes=answer.resident_bytes,
    )
    body = answer.body
    if events:
        trace, body = split_trace(body, events)
        result = replace(result, trace=trace, trace_complete=answer.ending is Ending.EXITED)
    document = document_of(body, room, False) if body else {}
    told: dict[str, JsonValue] = document if isinstance(document, dict) else {}
    if told.get("truncated") is True:
        result = replace(result, trace_complete=False)
    if answer.ending in _ENDINGS:
        verdict, error = ended(answer, limits)
        return replace(result, verdict=verdict or Verdict.NO_RESULT, error=error)
    if answer.ending is Ending.EXITED and answer.code == 0:
        return result
    status, words = told.get("status"), _text(told.get("error"))
    verdict = _FROM_CHILD.get(status, Verdict.EXCEPTION) if isinstance(status, str) else Verdict.EXCEPTION
    if answer.ending is Ending.SIGNALLED:
        verdict, words = Verdict.CRASHED, f"ended by {_signal_name(answer.code)}"
    if not room and _BAD_ALLOC in answer.stderr[-_BAD_ALLOC_WITHIN:]:  # a native program, which sends no document
        verdict = Verdict.MEMORY
    return replace(result, verdict=verdict, error=words or f"exited with code {answer.code}")


def without_host(text: bytes) -> bytes:
    """Without the paths of this host's interpreter, which tracebacks name."""
    for path in sorted({sys.prefix, sys.base_prefix}, key=len, reverse=True):
        text = text.replace(path.encode() + b"/", b"<python>/")
    return text


def generation_of(
    answer: Answer, room: int, limits: Limits, count: int, non_finite: bool
) -> tuple[list[JsonValue], Generation]:
    """The inputs that a generator made, each parsed from the text that will be executed."""
    cpu, wall = round(1000 * answer.cpu_seconds, 3), round(1000 * answer.wall_seconds, 3)
    verdict, error = ended(answer, None)
    if verdict is not None:
        return [], Generation(verdict, error, 0, 0, cpu, wall)
    document = document_of(answer.body, room, non_finite)
    if isinstance(document, str):
        return [], Generation(Verdict.NO_RESULT, document, 0, 0, cpu, wall)
    return _generated(document, limits.output_bytes, count, non_finite, cpu, wall)


def _generated(
    document: dict[str, JsonValue], most: int, count: int, non_finite: bool, cpu: float, wall: float
) -> tuple[list[JsonValue], Generation]:
    """The inputs by the child's own words."""
    error = None
    inputs: list[JsonValue] = []
    seen: set[str] = set()
    texts = document.get("inputs")
    for text in texts if isinstance(texts, list) else []:
        if len(inputs) == count:
            break
        try:
            value = parse_json(text if isinstance(text, str) else "", 6 * most, MAX_DEPTH, non_finite)
        except NotJsonError as problem:
            error = f"NotJson: {problem}"
            continue
        if isinstance(value, dict) and (key := canonical(value, non_finite)) not in seen:
            seen.add(key)
            inputs.append(value)
    status = document.get("status")
    if status == "ok":
        verdict = Verdict.OK
    else:
        verdict = _FROM_CHILD.get(status, Verdict.NO_RESULT) if isinstance(status, str) else Verdict.NO_RESULT
    error = _text(document.get("error")) or _text(document.get("last_error")) or error
    return inputs, Generation(
        verdict, error, _number(document.get("attempts")), _number(document.get("failed")), cpu, wall
    )


def ended(answer: Answer, limits: Limits | None) -> tuple[Verdict | None, str | None]:
    """The verdict that the way of ending alone decides; None if the child's own words are to be read."""
    verdict = _ENDINGS.get(answer.ending)
    if verdict is Verdict.TIMEOUT:
        return verdict, "out of CPU time" if answer.ending is Ending.OUT_OF_CPU_TIME else "out of wall time"
    if verdict is not None:
        size = f"larger than {limits.output_bytes} bytes" if limits else "too large"
        return verdict, f"the output is {size}"
    if answer.ending is Ending.SIGNALLED:
        return Verdict.CRASHED, f"ended by {_signal_name(answer.code)}"
    if answer.code != 0:
        return Verdict.NO_RESULT, f"exited with code {answer.code} before returning"
    if not answer.body:
        return Verdict.NO_RESULT, "exited before returning"
    return None, None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def document_of(body: bytes, room: int, non_finite: bool) -> dict[str, JsonValue] | str:
    """The child's one document, or what is wrong with what it wrote."""
    try:
        value = parse_json(body, room, MAX_DEPTH + 8, non_finite)
    except NotJsonError as error:
        return f"wrote something else than one result: {error}"[:300]
    return value if isinstance(value, dict) else "wrote something else than one result"


def _text(value: JsonValue) -> str | None:
    return value[:2000] if isinstance(value, str) else None


def _number(value: JsonValue) -> int:
    return value if _is_int(value) else 0


def _is_int(value: JsonValue) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def split_trace(body: bytes, events: int) -> tuple[tuple[TraceEvent, ...] | None, bytes]:
    """The steps that a traced child sent, a line each, and the document behind them. No steps if one is not what a
    tracer sends, or if there are more than were asked for. Where the child was killed, the last line may be broken
    off; it is not read."""
    if body.count(b"\n") > events:
        return None, body[body.rfind(b"\n") + 1 :]
    *lines, document = body.split(b"\n")
    trace = []
    for line in lines:
        try:
            event = parse_json(line, len(line))
        except NotJsonError:
            return None, document
        match event:
            case [int(number), str(kind), str(function), int(depth), dict(changed), None | str() as value]:
                texts = {name: text for name, text in changed.items() if isinstance(text, str)}
                trace.append(TraceEvent(number, kind, function, depth, texts, value))
            case _:
                return None, document
    return tuple(trace), document
