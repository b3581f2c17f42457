"""How tests ask a sandbox."""

from __future__ import annotations

from codeio_hpc.sandbox import (
    Execution,
    FunctionRequest,
    Pool,
    ProgramRequest,
    ProgramResult,
    ProgramRun,
    ProgramTest,
)

LEVELS = ["nsjail", "landlock+seccomp"]
"""Isolation levels that the machines of the tests give."""


def execute(pool: Pool, code: str, *inputs: object, **fields: object) -> list[Execution]:
    """The executions of ``main_solution(x)`` for each input (by default 1)."""
    values = [{"x": value} for value in inputs or (1,)]
    return pool.run(FunctionRequest("f", code, inputs=values, **fields)).results


def run(pool: Pool, program: str, *tests: tuple[str, str | None], **fields: object) -> ProgramResult:
    """A program judged on tests, each its input and what it should print."""
    request = ProgramRequest("p", program, [ProgramTest(*test) for test in tests or [("", None)]], **fields)
    return pool.run_program(request)


def run_one(pool: Pool, program: str, stdin: str = "", stdout: str | None = None, **fields: object) -> ProgramRun:
    """The same on one test."""
    (result,) = run(pool, program, (stdin, stdout), **fields).results
    return result
