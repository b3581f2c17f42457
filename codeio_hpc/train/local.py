"""Several ranks on this machine, without a launcher that kills them too early."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from codeio_hpc.launch.notice import MISCONFIGURED, PASSING, SAVED, SIGNALS
from codeio_hpc.train.checkpoints.files import published
from codeio_hpc.train.world import free_port

_GRACE = 20.0
"""Seconds that ranks get to end by themselves after one of them failed."""
_PR_SET_PDEATHSIG = 1
_COMMAND = [sys.executable, "-m", "codeio_hpc"]


def run_ranks(run: Path, stage: str, ranks: int, as_json: bool) -> int:
    """``codeio train`` as that many ranks; see :func:`run_verb`."""
    words = ["train", str(run), "--stage", stage, *(["--json"] * as_json)]
    folder = run / "checkpoints" / stage

    def again() -> str:
        return f"the same command {'goes on from the last checkpoint' if published(folder) else 'starts afresh'}"

    return run_verb(words, ranks, again)


def run_verb(words: Sequence[str], ranks: int, again: Callable[[], str] | None = None) -> int:
    """Start ``codeio WORDS`` as that many processes and wait; the first exit code that is not 0, else 0.

    Notices to stop are passed on to every rank. When one rank fails, the others, which wait for it, are ended.

    Args:
        again: what a person can do where a rank was killed or lost the others; None: an exit code of 75 is the verb's
            own answer.
    """
    port = free_port()
    command = [*_COMMAND, *words]
    processes = [subprocess.Popen(command, env=_environment(rank, ranks, port), preexec_fn=_die_with_parent,
                                  start_new_session=True) for rank in range(ranks)]  # fmt: skip

    told: list[int] = []

    def forward(number: int, _: object) -> None:
        # a rank that does not listen yet would answer SIGINT with a traceback; to one that does, all mean the same
        number = signal.SIGTERM if number == signal.SIGINT else number
        told.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        return _wait(processes, again, told)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(
    processes: Sequence[subprocess.Popen[bytes]], again: Callable[[], str] | None, told: Sequence[int] = ()
) -> int:
    first, deadline = 0, None
    while any(process.poll() is None for process in processes):
        first = first or _first_failure(processes, again, told)
        if first not in (0, SAVED) and deadline is None:
            deadline = time.monotonic() + _GRACE
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(0.05)
    first = first or _first_failure(processes, again, told)
    return SAVED if first - 128 in told else first


def _first_failure(
    processes: Sequence[subprocess.Popen[bytes]], again: Callable[[], str] | None, told: Sequence[int] = ()
) -> int:
    """The exit code of a rank that ended with one, said once; 0 if there is none. One that was killed counts as lost,
    where the same command goes on.

    Args:
        told: signals that were passed on; a rank that they ended did not listen yet.
    """
    for rank, process in enumerate(processes):
        code = process.poll()
        if code:
            _say(rank, code, again, -code in told)
            return code if code > 0 else PASSING if again and -code not in told else 128 - code
    return 0


def _say(rank: int, code: int, again: Callable[[], str] | None, is_told: bool) -> None:
    if is_told:
        print("codeio: told to stop before anything was begun", file=sys.stderr)
    elif code not in (SAVED, MISCONFIGURED) and (again or code != PASSING):
        what = f"ended with code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
        # after another code, which the rank has explained, the same command meets the same
        advice = f"; {again()}" if again and (code < 0 or code == PASSING) else ""
        print(f"codeio: rank {rank} {what}{advice}", file=sys.stderr)


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    ours = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": 1,
    }
    return {**os.environ, **{name: str(value) for name, value in ours.items()}}


def _die_with_parent() -> None:
    """Ranks never outlive the process that started them, however it ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
