"""What a jail's self-test makes of probes that ended otherwise than they should."""

from __future__ import annotations

from typing import Any

import pytest

from codeio_hpc.sandbox.jail.protocol import Answer, Ending, JailLostError
from codeio_hpc.sandbox.jail.selftest import JailNotTightError, prove


def ended(ending: Ending, code: int = 0, output: str = "[]") -> Answer:
    return Answer(ending, code, 0.0, 0.0, 0, f'{{"status": "ok", "output": {output}}}'.encode())


class Jail:
    """Whose n-th run ends as told; the others as they should."""

    level, kind = "nsjail", "native"

    def __init__(self, number: int | None, ending: Ending, code: int) -> None:
        limits = [ended(Ending.OUT_OF_CPU_TIME), ended(Ending.ANSWER_TOO_LARGE)]
        self.answers = [ended(Ending.EXITED), *limits, ended(Ending.EXITED, 42), ended(Ending.EXITED, 0, "[42]")]
        if number is not None:
            self.answers[number] = ended(ending, code)

    def run(self, *_: Any) -> Answer:
        return self.answers.pop(0)

    def load(self, program: bytes) -> None:
        pass


def test_probes_that_end_as_they_should_prove_a_jail() -> None:
    prove(Jail(None, Ending.EXITED, 0))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(5))
def test_a_probe_that_was_killed_from_outside_says_nothing_about_the_walls(number: int) -> None:
    """By the host that runs out of memory, say: the jail is started again, the host is not called unfit."""
    with pytest.raises(JailLostError, match="killed from outside"):
        prove(Jail(number, Ending.SIGNALLED, 9))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(5))
def test_any_other_end_of_a_probe_does(number: int) -> None:
    with pytest.raises(JailNotTightError):
        prove(Jail(number, Ending.SIGNALLED, 11))  # type: ignore[arg-type]
