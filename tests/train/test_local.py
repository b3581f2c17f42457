"""What is said of ranks that were started on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from codeio_hpc.launch.notice import PASSING, SAVED
from codeio_hpc.train import local
from codeio_hpc.train.local import _first_failure, run_verb


def again() -> str:
    return "AGAIN"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-9, "codeio: rank 1 was ended by SIGKILL; AGAIN\n"),
        (75, "codeio: rank 1 ended with code 75; AGAIN\n"),
        (1, "codeio: rank 1 ended with code 1\n"),
        (64, ""),
        (85, ""),
    ],
)
def test_only_after_a_passing_failure_the_same_command_is_advised(
    code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    processes: list[Any] = [SimpleNamespace(poll=lambda: 0), SimpleNamespace(poll=lambda: code)]
    assert _first_failure(processes, again) == (code if code > 0 else PASSING)
    assert capsys.readouterr().err == said


def test_ranks_that_are_told_before_they_listen_end_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "_GRACE", 0.2)
    monkeypatch.setattr(local, "_COMMAND", ["/bin/sh", "-c", "exec sleep 60"])
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    assert run_verb([], 2) == SAVED
    assert time.monotonic() - began < 30
    assert capfd.readouterr().err == "codeio: told to stop before anything was begun\n"
