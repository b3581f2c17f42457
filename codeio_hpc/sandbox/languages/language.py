"""What the sandbox has to know of a language."""

from __future__ import annotations

from dataclasses import dataclass

from codeio_hpc.sandbox.policy import Limits

COMPILER_LIMITS = Limits(cpu_seconds=30.0, memory_bytes=4 * 2**30, output_bytes=16 * 2**20)
"""Of one compilation; ``output_bytes`` bounds the program that comes out."""


@dataclass(frozen=True, slots=True)
class Language:
    """How a program is made of its source."""

    name: str
    source: str = ""
    """Name of the source file; headers lie beside it."""
    compiler: str = ""
    """Found on the worker's ``PATH``; empty where the sandbox itself runs the source, as it does Python."""
    standards: tuple[str, ...] = ()
    """Options that choose the language's standard, tried in this order until one takes the source."""
    options: tuple[str, ...] = ()
    """Further ones, before the source's name; the program is to be written to ``program``."""
    limits: Limits = COMPILER_LIMITS
