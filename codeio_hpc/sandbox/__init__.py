"""Untrusted code: executed in warm, nested jails, one forked process for each input (or function).

``Pool`` is the Python interface, ``codeio exec`` (``execute.py``) the one for JSON lines. ``docs/sandbox.md`` says what
is covered at each isolation level and what is not.
"""

from codeio_hpc.sandbox.comparators import TOKENS, Comparator
from codeio_hpc.sandbox.jail.probe import probe
from codeio_hpc.sandbox.policy import LEVELS, PROGRAM_LIMITS, Level, Limits, check_seeds
from codeio_hpc.sandbox.pool import Pool
from codeio_hpc.sandbox.request import (
    Checker,
    Execution,
    FunctionRequest,
    FunctionResult,
    Generation,
    Generator,
    ProgramRequest,
    ProgramResult,
    ProgramRun,
    ProgramTest,
    TraceEvent,
    TraceLimits,
)
from codeio_hpc.sandbox.values import (
    DEFAULT,
    EXACT,
    PAPER,
    TOLERANCES,
    JsonValue,
    NotJsonError,
    Tolerance,
    canonical,
    dump_json,
    equal,
    parse_json,
)
from codeio_hpc.sandbox.verdicts import Verdict

__all__ = [
    "DEFAULT",
    "EXACT",
    "LEVELS",
    "PAPER",
    "PROGRAM_LIMITS",
    "TOKENS",
    "TOLERANCES",
    "Checker",
    "Comparator",
    "Execution",
    "FunctionRequest",
    "FunctionResult",
    "Generation",
    "Generator",
    "JsonValue",
    "Level",
    "Limits",
    "NotJsonError",
    "Pool",
    "ProgramRequest",
    "ProgramResult",
    "ProgramRun",
    "ProgramTest",
    "Tolerance",
    "TraceEvent",
    "TraceLimits",
    "Verdict",
    "canonical",
    "check_seeds",
    "dump_json",
    "equal",
    "parse_json",
    "probe",
]
