"""How one execution ended."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """``ok``, or exactly one named reason why not."""

    OK = "ok"
    EXCEPTION = "exception"
    """The code raised, or could not be compiled, or does not define its entry point."""
    TIMEOUT = "timeout"
    """Out of CPU time, or of wall time twice; or not run because the function had two timeouts before."""
    MEMORY = "memory"
    OUTPUT_TOO_LARGE = "output_too_large"
    NOT_JSON = "not_json"
    """The value returned is not made of JSON's own types."""
    NONDETERMINISTIC = "nondeterministic"
    """Another value under another hash seed and random seed."""
    TOO_LARGE = "too_large"
    """Outside the size rules of the stage that asked (not used by the sandbox itself)."""
    CRASHED = "crashed"
    """Ended by a signal of its own making: a segmentation fault, an abort."""
    FORBIDDEN = "forbidden"
    """A call that the sandbox denies, and the code did not handle the refusal."""
    NO_RESULT = "no_result"
    """Ended without returning: exited by itself, or wrote something else than one result."""
    INFRASTRUCTURE = "infrastructure"
    """The sandbox failed, twice. Never blamed on the code."""
