"""What the child of a function does: compile the code, call it, send one JSON document, exit.

Runs already confined. The code under test shares this interpreter and can
forge what is sent, but only for its own execution, which is no more than returning it. Everything needed after the
code has run is therefore looked up before.
"""

from __future__ import annotations

import errno
import json
import math
import os
import random
import sys
import time
import types
import zlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

from codeio_hpc.sandbox.inside.confine import REHEARSALS
from codeio_hpc.sandbox.inside.tracer import SOLUTION, Tracer
from codeio_hpc.sandbox.inside.words import text_of

MAX_DEPTH = 64
MAX_INTEGER_BITS = 14_000
"""About what fits into the 4,300 digits that Python converts from text."""
REHEARSAL = "import math\ndef main_solution(given):\n    return {'given': [given[0] + 1, *given], 'all': len(given)}\n"
Task = dict[str, Any]
"""A request, as ``functions.py`` makes it."""

_DENIED = {errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOSYS}


class NotJsonError(Exception):
    """The value is not made of JSON's own types."""


class TooLargeError(Exception):
    """The value is longer than may come out."""


def run(request: bytes, output: int, most: int) -> None:
    """Answer one request on the descriptor ``output`` and exit with 0."""
    write, leave = os.write, os._exit
    view = memoryview(answer(request, lambda data: write(output, data), most))
    while view:
        view = view[write(output, view) :]
    leave(0)


def answer(request: bytes, send: Callable[[bytes], Any], most: int) -> bytes:
    """The document that answers a request. A tracer uses ``send`` before there is one."""
    dumps = json.dumps
    task = {**json.loads(request), "most": most, "send": send}
    document = {"call": call, "call_all": call_all, "generate": generate}[task["kind"]](task)
    return dumps(document, allow_nan=task["non_finite"]).encode("utf-8", "replace")


def rehearse() -> None:
    """Do in the zygote what every child does. The interpreter fills its caches on the way and adapts its instructions;
    if that is still to be done after the fork, it costs a copy of every page that is written to, in every child."""
    task = {"kind": "call", "code": REHEARSAL, "entry_point": "main_solution", "input": '{"given": [1, 0.5, "a"]}'}
    request = json.dumps({**task, "seed": "", "trace": None, "output_bytes": 1000, "non_finite": False}).encode()
    for _ in range(REHEARSALS):
        answer(request, bytes, 1000)
    del sys.modules["solution"]


def call(task: Task) -> dict[str, Any]:
    """Execute the entry point on one input."""
    return execute(task, task["code"], task["input"])


def call_all(task: Task) -> dict[str, Any]:
    """Execute the entry point on one input after the other, each in a module of its own; with a generator, on what
    that draws."""
    drawn = generate({**task["generator"], "most": task["most"]}) if task["generator"] else {"inputs": task["inputs"]}
    program = compiled(task["code"])
    clock = time.thread_time  # under a limit of CPU time the process's own clock moves in ticks of some milliseconds
    results = []
    for given in drawn["inputs"]:
        start = clock()
        document = execute(task, program, given)
        document["cpu_seconds"] = clock() - start
        results.append(document)
    return {**drawn, "results": results}


def execute(task: Task, program: str | types.CodeType, given: str) -> dict[str, Any]:
    """One execution and how it ended."""
    tracer = None
    try:
        seed_everything(task["seed"])
        entry = load(program, task["entry_point"])
        value = json.loads(given)
        if task.get("trace"):
            tracer = Tracer(task["trace"], task["send"])
        result = tracer.call(lambda: apply(entry, value)) if tracer else apply(entry, value)
        document = {"status": "ok", "output": plain(result, task["output_bytes"], task["non_finite"])}
    except BaseException as error:  # noqa: BLE001 - whatever the code raises is its result
        document = failure(error)
    if tracer:
        document["truncated"] = tracer.full
    return document


def generate(task: Task) -> dict[str, Any]:
    """Call the input generator until there are enough distinct inputs, or attempts, or time, are used up."""
    inputs: list[str] = []
    seen: set[str] = set()
    failed = attempts = size = 0
    last_error = None
    used, clock, stop = time.process_time, time.monotonic, time.monotonic() + task["wall_seconds"]
    dumps, most = json.dumps, task["most"]
    try:
        seed_everything(task["seed"])
        entry = load(task["code"], task["entry_point"])
        while len(inputs) < task["count"] and attempts < task["attempts"]:
            if used() > task["cpu_seconds"] or clock() > stop:
                break
            attempts += 1
            try:
                value = plain(entry(), task["output_bytes"], task["non_finite"])
                if type(value) is not dict:
                    raise NotJsonError(f"an input is an object of arguments, not {type(value).__name__}")
            except Exception as error:  # noqa: BLE001 - a failing call costs that call
                failed, last_error = failed + 1, failure(error)["error"]
                continue
            key = dumps(value, sort_keys=True)
            if key not in seen:
                seen.add(key)
                inputs.append(dumps(value))
                size += len(inputs[-1]) * 2
                if size > most - 2**16:
                    break
        document: dict[str, Any] = {"status": "ok", "inputs": inputs}
    except BaseException as error:  # noqa: BLE001 - the generator's module may do anything
        document = failure(error)
        document["inputs"] = inputs
    document.update(attempts=attempts, failed=failed, last_error=last_error)
    return document


def seed_everything(seed: str) -> None:
    """Seed what is seeded globally. Python re-seeds nothing after a fork, so every child starts alike."""
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(zlib.crc32(seed.encode()))


def compiled(code: str) -> types.CodeType:
    """The code as a module's."""
    return compile(code.removeprefix("\ufeff"), SOLUTION, "exec", dont_inherit=True)


def load(program: str | types.CodeType, entry_point: str) -> Callable[..., Any]:
    """Execute the module and return its entry point."""
    module = types.ModuleType("solution")
    module.__file__ = SOLUTION
    sys.modules["solution"] = module
    program = compiled(program) if isinstance(program, str) else program
    exec(program, module.__dict__)  # noqa: S102 - the purpose of all this
    try:
        entry: Callable[..., Any] = module.__dict__[entry_point]
    except KeyError:
        raise NameError(f"the code defines no {entry_point}") from None
    return entry


def apply(entry: Callable[..., Any], value: object) -> object:
    """Objects are keyword arguments, anything else is the one argument."""
    return entry(**value) if isinstance(value, dict) else entry(value)


def plain(value: Any, most: int, non_finite: bool) -> Any:
    """A copy made of JSON's own types, by exact type; tuples become lists. Bounded in depth and number of parts.

    Raises:
        NotJsonError: of another type, not finite, too deep, or a lone surrogate.
        TooLargeError: surely longer than ``most`` characters.
    """
    return _plain(value, 1, [most], non_finite)


def _plain(value: Any, depth: int, budget: list[int], non_finite: bool) -> Any:
    kind = type(value)
    budget[0] -= 1
    if budget[0] < 0:
        raise TooLargeError
    if value is None or kind is bool:
        return value
    if kind is int:
        if value.bit_length() > MAX_INTEGER_BITS:
            raise NotJsonError(f"an integer of {value.bit_length()} bits")
        budget[0] -= value.bit_length() // 4
        return value
    if kind is str:
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise NotJsonError("a lone surrogate in a string") from None
        budget[0] -= len(value)
        if budget[0] < 0:
            raise TooLargeError
        return value
    if kind is float or kind is getattr(sys.modules.get("numpy"), "float64", float):
        value = float(value)  # numpy's float64 is a float, and ``json`` itself writes it so
        if not non_finite and not math.isfinite(value):
            raise NotJsonError(f"{value} is not JSON")
        return value
    if depth > MAX_DEPTH:
        raise NotJsonError(f"nested deeper than {MAX_DEPTH}")
    if kind is list or kind is tuple:
        return [_plain(item, depth + 1, budget, non_finite) for item in value]
    if kind in MAPPINGS:
        return _plain_mapping(value, depth, budget, non_finite)
    raise NotJsonError(f"a value of type {kind.__name__}")


MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
"""Types, exactly, that become JSON objects; ``json`` itself writes them so."""


def _plain_mapping(value: Any, depth: int, budget: list[int], non_finite: bool) -> dict[str, Any]:
    result = {}
    for key, item in dict.items(value):
        if type(key) is not str:
            raise NotJsonError(f"a key of type {type(key).__name__}")
        result[_plain(key, depth, budget, non_finite)] = _plain(item, depth + 1, budget, non_finite)
    return result


def failure(error: BaseException) -> dict[str, Any]:
    """How an exception is reported: a status, and its type and message without paths of the host."""
    if isinstance(error, NotJsonError):
        return {"status": "not_json", "error": text_of(error)}
    if isinstance(error, TooLargeError):
        return {"status": "output_too_large", "error": None}
    status = "exception"
    if isinstance(error, MemoryError):
        status = "memory"
    elif isinstance(error, OSError) and error.errno in _DENIED:
        status = "forbidden"
    name = type(error).__name__
    message = text_of(error)
    return {"status": status, "error": f"{name}: {message}" if message else name}
