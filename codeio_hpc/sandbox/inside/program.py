"""What the child of a Python program does: be a fresh interpreter that runs one file.

Standard input, output and error are the process's own descriptors 0, 1 and 2, opened as ``python solution.py`` opens
them under ``LC_ALL=C.UTF-8``, and at its end everything happens that an interpreter does then: threads are waited for,
what was registered for the exit is called, streams and files are flushed, objects are finalised. How it ends is what
the process does; the document on descriptor 3 only tells the exception's kind for those that end with one, and the
steps of a traced run.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import linecache
import os
import resource
import sys
import threading
import traceback
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from codeio_hpc.sandbox.inside import guest
from codeio_hpc.sandbox.inside.tracer import SOLUTION, Tracer

_NOT_FLUSHED = 120
"""The interpreter's exit code where standard output could not be flushed at the end."""


def run(request: bytes, output: int) -> None:
    """Run the program of one request and exit as it does."""
    write, leave, dumps, failure = os.write, os._exit, json.dumps, guest.failure
    task = json.loads(request)
    open_standard_streams()
    allow_any_stack()
    tracer = Tracer(task["trace"], lambda data: write(output, data)) if task["trace"] else None
    module = types.ModuleType("__main__")
    end = ending(module)  # before the program can put something else in the place of what is needed for it
    document: dict[str, Any] = {}
    code = 0
    try:
        execute(module, task, tracer)
    except SystemExit as leaving:
        code = exit_code(leaving)
    except BaseException as error:  # noqa: BLE001 - whatever the program raises ends it
        code, document = 1, failure(error)
        show(error)
    if not end() and code == 0:
        code = _NOT_FLUSHED
    if tracer:
        document["truncated"] = tracer.full
    with suppress(OSError):  # closed by the program: its exit code tells enough
        if document:
            write(output, dumps(document).encode("utf-8", "replace"))
    leave(code)


def open_standard_streams() -> None:
    """The three streams over the process's own descriptors."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        mode = "wb" if descriptor else "rb"
        errors = "backslashreplace" if name == "stderr" else "surrogateescape"
        raw = io.FileIO(descriptor, mode, closefd=False)
        raw.name = f"<{name}>"
        buffer = io.BufferedReader(raw) if mode == "rb" else io.BufferedWriter(raw)
        newline = None if mode == "rb" else "\n"
        stream = io.TextIOWrapper(buffer, "utf-8", errors, newline, line_buffering=name == "stderr")
        vars(stream)["mode"] = mode[0]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def allow_any_stack() -> None:
    """Programs ask for an unlimited stack, which they may have where they are judged; more than there is has no use."""
    set_limit = resource.setrlimit

    def setrlimit(which: int, limits: tuple[int, int], /) -> None:
        if which != resource.RLIMIT_STACK:
            set_limit(which, limits)

    resource.setrlimit = setrlimit


def execute(module: types.ModuleType, task: dict[str, Any], tracer: Tracer | None) -> None:
    """The program as the main module."""
    guest.seed_everything(task["seed"])
    sys.argv[:] = [SOLUTION]
    module.__file__ = SOLUTION
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = module
    source = task["code"]
    # tracebacks show the lines
    linecache.cache[SOLUTION] = (len(source), None, source.splitlines(keepends=True), SOLUTION)
    code = guest.compiled(source)

    def execute_module() -> None:
        exec(code, module.__dict__)  # noqa: S102 - the purpose of all this

    frame, above = sys._getframe(), 1 + (tracer is not None)
    while frame := frame.f_back:  # type: ignore[assignment]
        above += 1
    sys.setrecursionlimit(sys.getrecursionlimit() + above)
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
    with suppress(Exception):  # closed, or its text cannot be shown
        print(leaving.code, file=sys.stderr)
    return 1


def ending(module: types.ModuleType) -> Callable[[], bool]:
    """What an interpreter does at its end, to be called then; False if standard output could not be flushed."""
    shut_down, at_exit = threading._shutdown, atexit._run_exitfuncs  # type: ignore[attr-defined]
    collect, streams = gc.collect, (sys.stdout, sys.stderr)

    def tried(step: Callable[[], object]) -> bool:
        try:
            step()
        except BaseException:  # noqa: BLE001 - one step does not keep the others from being done
            return False
        return True

    def flush(name: str) -> bool:
        stream = getattr(sys, name, None)
        if stream is None:
            return True
        try:
            closed = stream.closed
        except Exception:  # noqa: BLE001 - detached, or of the program's own making
            closed = False
        return closed or tried(stream.flush)

    def finalise() -> None:
        for name in list(module.__dict__):
            if name != "__builtins__":
                module.__dict__[name] = None
        collect()

    def end() -> bool:
        tried(shut_down)
        tried(at_exit)
        flushed = flush("stdout")
        flush("stderr")
        tried(finalise)
        flush("stdout")
        for stream in streams:  # the ones that the program began with, if it has others now
            tried(stream.flush)
        return flushed

    return end


def show(error: BaseException) -> None:
    """The traceback, without the frames of this file."""
    steps = error.__traceback__
    while steps and steps.tb_frame.f_code.co_filename != SOLUTION:
        steps = steps.tb_next
    with suppress(BaseException):  # told by the exit code
        sys.stdout.flush()
    try:
        traceback.print_exception(type(error), error, steps, file=sys.stderr)
    except BaseException as again:  # noqa: BLE001 - __str__ of the program's own exception may raise anything
        text = f"{type(error).__name__} (its traceback cannot be shown: {type(again).__name__})\n"
        with suppress(OSError):
            os.write(2, text.encode())
