"""What the child of a Python program does: be a fresh interpreter that runs one file, with real pipes.

Standard input, output and error are the process's own descriptors 0, 1 and 2, opened as ``python solution.py`` opens
them under ``LC_ALL=C.UTF-8``. How it ends is what the process does; the document on descriptor 3 only tells the
exception's kind for those that end with one, and the steps of a traced run.
"""

from __future__ import annotations

import atexit
import io
import json
import linecache
import os
import sys
import threading
import traceback
import types
from typing import Any

from codeio_hpc.sandbox.inside import guest
from codeio_hpc.sandbox.inside.tracer import SOLUTION, Tracer


def run(request: bytes, output: int) -> None:
    """Run the program of one request and exit as it does."""
    write, leave, dumps, failure = os.write, os._exit, json.dumps, guest.failure
    shut_down, at_exit = threading._shutdown, atexit._run_exitfuncs  # type: ignore[attr-defined]
    task = json.loads(request)
    open_standard_streams()
    stdout, stderr = sys.stdout, sys.stderr
    tracer = Tracer(task["trace"], lambda data: write(output, data)) if task["trace"] else None
    document: dict[str, Any] = {}
    code = 0
    try:
        execute(task, tracer)
    except SystemExit as leaving:
        code = exit_code(leaving)
    except BaseException as error:  # noqa: BLE001 - whatever the program raises ends it
        code, document = 1, failure(error)
        show(error)
    try:
        shut_down()
        at_exit()
        stdout.flush()
    except Exception as error:  # noqa: BLE001 - closed, or broken by the program
        code = code or (120 if not stdout.closed else 0)
        print(f"{type(error).__name__}: {error}", file=stderr)
    if tracer:
        document["truncated"] = tracer.full
    if document:
        write(output, dumps(document).encode("utf-8", "replace"))
    leave(code)


def open_standard_streams() -> None:
    """The three streams over the process's pipes."""
    settings = (
        ("stdin", "rb", "surrogateescape"),
        ("stdout", "wb", "surrogateescape"),
        ("stderr", "wb", "backslashreplace"),
    )
    for descriptor, (name, mode, errors) in enumerate(settings):
        raw = io.FileIO(descriptor, mode, closefd=False)
        raw.name = f"<{name}>"
        buffer = io.BufferedReader(raw) if mode == "rb" else io.BufferedWriter(raw)
        newline = None if mode == "rb" else "\n"
        stream = io.TextIOWrapper(buffer, "utf-8", errors, newline, line_buffering=name == "stderr")
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def execute(task: dict[str, Any], tracer: Tracer | None) -> None:
    """The program as the main module."""
    guest.seed_everything(task["seed"])
    sys.argv[:] = [SOLUTION]
    module = types.ModuleType("__main__")
    module.__file__ = SOLUTION
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = module
    source = task["code"]
    # tracebacks show the lines
    linecache.cache[SOLUTION] = (len(source), None, source.splitlines(keepends=True), SOLUTION)
    code = guest.compiled(source)

    def execute_module() -> None:
        exec(code, module.__dict__)  # noqa: S102 - the purpose of all this

    if tracer:
        tracer.call(execute_module)
    else:
        execute_module()


def exit_code(leaving: SystemExit) -> int:
    """As the interpreter takes what ``sys.exit`` was given."""
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1


def show(error: BaseException) -> None:
    """The traceback, without the frames of this file."""
    steps = error.__traceback__
    while steps and steps.tb_frame.f_code.co_filename != SOLUTION:
        steps = steps.tb_next
    try:
        sys.stdout.flush()
        traceback.print_exception(type(error), error, steps, file=sys.stderr)
    except BaseException as again:  # noqa: BLE001 - __str__ of the program's own exception may raise anything
        os.write(2, f"{type(error).__name__} (its traceback cannot be shown: {type(again).__name__})\n".encode())
