"""The record that an attempt at training keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codeio_hpc.launch.attempts import Attempt, read_attempts
from codeio_hpc.train import run as training


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_an_attempt_shows_that_it_lives_so_that_a_killed_one_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_SIGN_OF_LIFE", 0.02)
    plan: Any = SimpleNamespace(run=tmp_path, name="stage1")
    world: Any = SimpleNamespace(rank=0)
    notice: Any = SimpleNamespace(received=None)

    def record() -> Attempt:
        [attempt] = read_attempts(tmp_path)
        return attempt

    with training._on_record(plan, world, notice):
        first = record()
        wait_for(lambda: record().saved > first.saved)
        assert record().cause is None, "killed now, it has used the time until then"
    assert record().cause == "done"
    last = record().saved
    time.sleep(0.1)
    assert record().saved == last, "it shows no life after its end"
