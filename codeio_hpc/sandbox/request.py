"""What the sandbox is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.policy import Kind, Level, Limits
from codeio_hpc.sandbox.values import DEFAULT, JsonValue, Tolerance
from codeio_hpc.sandbox.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Generator:
    """Where inputs come from: a function without arguments that returns one object of keyword arguments a call."""

    code: str | None = None
    """Its own source; None if the function's code defines it."""
    entry_point: str = "input_generator"
    count: int = 10
    """Distinct inputs wanted."""
    attempts: int = 1000
    """Calls at most."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TraceLimits:
    """How much of a line trace is kept."""

    events: int = 400
    bytes: int = 65_536


@dataclass(frozen=True, slots=True)
class FunctionRequest:
    """One function and its inputs: given, or made by a generator inside the jail."""

    id: str
    code: str
    entry_point: str = "main_solution"
    inputs: Sequence[JsonValue] | None = None
    """Keyword arguments, each an object; anything else than an object is passed as the only argument."""
    generator: Generator | None = None
    kind: Kind | None = None
    """Which jail it needs; None: told by what the code and its generator import."""
    expected: Sequence[JsonValue] | None = None
    """Compared in the worker; never enters the jail."""
    together: bool = False
    """Run the inputs one after the other in one process, each in a module of its own: several times cheaper, but code
    can carry something over. Only for results that are compared with others. Where the shared process takes longer than
    a second or does not end well, every input runs alone."""
    trace: bool | TraceLimits = False
    limits: Limits | None = None
    """Default: the pool's."""
    seed: int = 0
    """Of Python's (and numpy's) global random numbers, before every execution; mixed with the pool's hash seed."""
    tolerance: Tolerance = DEFAULT
    non_finite: bool = False
    """Let NaN and infinities in and out, in Python's spelling; NaN then equals NaN. JSON itself has neither."""

    def __post_init__(self) -> None:
        if (self.inputs is None) == (self.generator is None):
            raise UserError(f"function {self.id}", "it needs either inputs or a generator", "give exactly one of them")
        if self.together and self.trace:
            raise UserError(f"function {self.id}", "inputs that run together are not traced", "ask for one of the two")
        if self.expected is not None and (self.inputs is None or len(self.expected) != len(self.inputs)):
            raise UserError(
                f"function {self.id}: expected outputs without an input each",
                "each expected output belongs to one input",
                "give as many expected outputs as inputs",
            )


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One step of a traced run."""

    line: int
    """In the request's code, from 1."""
    event: str
    """``call``, ``line`` (about to run), ``return`` or ``exception``."""
    function: str
    depth: int
    """1 for the entry point."""
    changed: dict[str, str]
    """Locals that are new or differ since this frame's last event, as short reprs without addresses."""
    value: str | None = None
    """What a ``return`` gives back, as a short repr; the exception's type and message."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One input and what came of it."""

    verdict: Verdict
    input: JsonValue = None
    """The value that was executed, as it was before the call."""
    output: JsonValue = None
    error: str | None = None
    """Type and message of the exception, or what else went wrong; no paths of the host."""
    correct: bool | None = None
    """Whether the output equals the expected one; None if none was given."""
    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    trace: tuple[TraceEvent, ...] | None = None
    trace_complete: bool = True
    """False if the trace reached its limits and stops before the end."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How the input generator ended."""

    verdict: Verdict
    error: str | None
    """Of the generator itself, or of the last of its calls that failed."""
    attempts: int
    failed: int
    """Calls that raised or gave something that is not an object of JSON values."""
    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True, slots=True)
class FunctionResult:
    """The answer to a ``FunctionRequest``: one execution for each input, in order."""

    id: str
    results: list[Execution]
    isolation: Level
    generation: Generation | None = None
    """None if the inputs were given."""
    shared: bool = False
    """Whether the inputs ran together in one process."""
