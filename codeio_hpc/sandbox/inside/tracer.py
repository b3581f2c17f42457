"""Line traces of a solution: every step as it happens, within a number of events, bytes and seconds."""

from __future__ import annotations

import io
import json
import math
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

from codeio_hpc.sandbox.inside.words import repr_of, text_of

SOLUTION = "<solution>"
"""The file name of the code under test."""

SHORT = 200
"""Characters kept of a value."""


class Nowhere(io.TextIOBase):
    """Takes what is written."""

    def write(self, text: str, /) -> int:
        return len(text)


class Tracer:
    """Follows the functions that are defined in the solution, and sends every event as a line of JSON.

    An event is ``[line, event, function, depth, {changed local: its short repr}, value or None]``; ``value`` is the
    repr of what a ``return`` gives back, or the exception's type and message. Sent at once, so that there is a trace
    of a run that is killed.
    """

    def __init__(self, limits: dict[str, Any], send: Callable[[bytes], object]) -> None:
        self.full = False
        self.left_events, self.left_bytes = limits["events"], limits["bytes"]
        self.clock = time.thread_time
        self.end = math.inf if limits["seconds"] is None else self.clock() + limits["seconds"]
        self.send, self.dumps = send, json.dumps
        self.depth = 0
        self.nowhere = Nowhere()
        self.known: dict[int, dict[str, str]] = {}

    def call(self, function: Callable[[], object]) -> object:
        """Call ``function`` under tracing."""
        threading.settrace(self.enter)  # of threads that are started meanwhile
        sys.settrace(self.enter)
        try:
            return function()
        finally:
            sys.settrace(None)

    def enter(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        """The global trace function: follow only code of the solution."""
        if frame.f_code.co_filename != SOLUTION or self.full or event != "call":
            return None
        self.depth += 1
        self.known[id(frame)] = {}
        self.record(frame, "call", None)
        return self.step

    def step(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        """The local trace function."""
        if event == "line":
            self.record(frame, "line", None)
        elif event == "return":
            self.record(frame, "return", self.shown(argument))
            self.known.pop(id(frame), None)
            self.depth -= 1
        elif event == "exception":
            kind, message = type(argument[1]).__name__, text_of(argument[1])
            self.record(frame, "exception", f"{kind}: {message}" if message else kind)
        return None if self.full else self.step

    def shown(self, value: object) -> str:
        """The short repr. What a ``__repr__`` of the solution prints meanwhile is not the solution's output."""
        stdout, sys.stdout = sys.stdout, self.nowhere
        try:
            return repr_of(value, SHORT)
        finally:
            sys.stdout = stdout

    def record(self, frame: types.FrameType, event: str, value: str | None) -> None:
        """Send one event, or stop tracing when there is no room."""
        if self.full:
            return
        known = self.known.get(id(frame), {})
        changed = {}
        for name, local in frame.f_locals.items():
            if name.startswith("__") and frame.f_code.co_name == "<module>":
                continue  # a module's own names are nobody's variables
            text = self.shown(local)
            if known.get(name) != text:
                known[name] = changed[name] = text
        line = self.dumps([frame.f_lineno, event, frame.f_code.co_name, self.depth, changed, value]).encode() + b"\n"
        self.left_events -= 1
        self.left_bytes -= len(line)
        if self.left_events < 0 or self.left_bytes < 0 or self.clock() > self.end:
            self.full = True
            sys.settrace(None)
            return
        self.send(line)
