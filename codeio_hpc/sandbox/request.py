"""What the sandbox is asked, and what it answers: functions, and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.comparators import TOKENS, Comparator
from codeio_hpc.sandbox.languages import find_language
from codeio_hpc.sandbox.policy import PROGRAM_LIMITS, Kind, Level, Limits
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
    seconds: float | None = None
    """CPU time after which the rest of the run is not traced. None: the run's own limit, so that the trace does not
    depend on how fast the machine is."""


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


@dataclass(frozen=True, slots=True)
class ProgramTest:
    """One run of a program: what it reads, and what it should print."""

    stdin: str | bytes = ""
    stdout: str | bytes | None = None
    """None: whatever it prints. Compared in the worker; never enters the program's jail."""


@dataclass(frozen=True, slots=True)
class Checker:
    """A program that decides where more than one answer is right. Runs in a jail of its own, which the programs that
    it judges never share."""

    code: str
    language: str = "python"
    """``python``: the code defines ``check(stdin, stdout, expected)``, which returns True or False. Any compiled
    language: called with three files, in testlib's order input, output, answer; exit code 0 is right, 1, 2, 4 and 8 are
    wrong, everything else means that the checker failed."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What a compiled checker includes, by name: ``testlib.h``."""
    limits: Limits = PROGRAM_LIMITS

    def __post_init__(self) -> None:
        language = find_language(self.language)
        for name in self.files:
            if name in ("", ".", "..", language.source) or set(name) & set("/\0"):
                raise UserError(
                    f"the checker's file {name!r}",
                    f"files lie beside its source, {language.source or 'which has none'}",
                    "give a plain name, as testlib.h",
                )


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """A whole program and its tests, each a process of its own: a file for its input, pipes for what it prints."""

    id: str
    program: str
    tests: Sequence[ProgramTest]
    language: str = "python"
    comparator: Comparator = TOKENS
    checker: Checker | None = None
    """Decides instead of the comparator."""
    stop_at_failure: bool = False
    """Do not run what comes after the first test that is not right."""
    trace: bool | TraceLimits = False
    """Python only."""
    keep_bytes: int = 65_536
    """Of what a test printed, the result keeps so much; all of it is judged."""
    limits: Limits = PROGRAM_LIMITS
    """Of every test; ``output_bytes`` bounds what is printed."""
    seed: int = 0
    """Of Python's (and numpy's) global random numbers; mixed with the pool's hash seed."""

    def __post_init__(self) -> None:
        if not self.tests:
            raise UserError(
                f"program {self.id}: no tests", "a program that is never run is neither right nor wrong", "give a test"
            )
        if self.trace and self.language != "python":
            raise UserError(f"program {self.id}: a trace of {self.language}", "only Python is traced", "ask for none")


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """What came of one test."""

    verdict: Verdict
    """``ok``: it ended by itself with exit code 0. Whether it is right, ``correct`` tells."""
    correct: bool | None = None
    """None if nothing was expected, if it was not run, or if the sandbox or the checker failed."""
    stdout: bytes = b""
    """The first ``keep_bytes``."""
    stdout_bytes: int = 0
    """Length of all that was printed."""
    stderr: bytes = b""
    """The last 64 KiB."""
    error: str | None = None
    """Type and message of the exception, or what else went wrong; the checker's message."""
    exit_code: int | None = None
    """None if a signal ended it, or if it was not run."""
    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    memory_bytes: int = 0
    """Largest resident size; of Python, the interpreter included."""
    trace: tuple[TraceEvent, ...] | None = None
    trace_complete: bool = True


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """The answer to a ``ProgramRequest``: one result for each test, in order."""

    id: str
    results: list[ProgramRun]
    isolation: Level
    judge: str
    """The comparator's id, or ``checker:`` and the beginning of the checker's hash."""
    compile_error: str | None = None
    """What the compiler said, if it refused; then no test was run."""

    @property
    def correct(self) -> bool | None:
        """True if every test is right, False if one is not; None where that was not to be told: nothing expected, or
        the sandbox or the checker failed."""
        if any(result.correct is False for result in self.results):
            return False
        return None if any(result.correct is None for result in self.results) else True
