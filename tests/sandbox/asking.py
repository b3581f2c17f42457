"""How tests ask a sandbox."""

from __future__ import annotations

from codeio_hpc.sandbox import Execution, FunctionRequest, Pool

LEVELS = ["nsjail", "landlock+seccomp"]
"""Isolation levels that the machines of the tests give."""


def execute(pool: Pool, code: str, *inputs: object, **fields: object) -> list[Execution]:
    """The executions of ``main_solution(x)`` for each input (by default 1)."""
    values = [{"x": value} for value in inputs or (1,)]
    return pool.run(FunctionRequest("f", code, inputs=values, **fields)).results
