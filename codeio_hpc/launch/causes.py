"""Why attempts ended, from what each left behind: its record, and what SLURM and the batch shell wrote into its log.

SLURM is not asked. It says itself, in the log of a job that it ends, what it ends it for; who is killed without a word
there was killed by something else; and who has a successor without a word of SLURM lost its node.
"""

from __future__ import annotations

import math
import re
import socket
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from codeio_hpc.launch.attempts import Attempt, process_start, read_attempts
from codeio_hpc.launch.notice import PASSING

CAUSES = {
    "done": "everything that the task had to do is published",
    "running": "it is at work",
    "error": "a stage raised on a shard, or the program failed: the failure is in the log",
    "configuration": "a setting cannot work; trying again will not help",
    "time limit": "its time was up, or what was left would not have fitted",
    "preempted": "SLURM ended it for a job that comes first",
    "requeued": "somebody started it anew (scontrol requeue)",
    "cancelled": "somebody ended it (scancel, codeio cancel)",
    "node": "its node failed, or SLURM lost sight of it",
    "out of memory": "it used more memory than it had asked for",
    "ranks lost": "other ranks of the training were gone or could not be reached",
    "killed": "its process was killed, and not by SLURM",
    "interrupted": "it was told to stop, outside SLURM",
}
"""Every cause, with its meaning."""

HARMLESS = ("done", "running")

BLAMED_ON_NODE = ("node", "killed")
"""Causes that speak against the node when they come again there."""

_SLURM_SAYS = re.compile(
    r"slurmstepd(?:-(?P<host>\S+))?: error: \*\*\* (?:JOB|STEP) .* CANCELLED AT \S+(?P<why>.*) \*\*\*"
)
"""The line that slurmstepd writes into the log of what it ends (slurmd/slurmstepd/req.c); seen in 22.05 to 26.05."""

_WHY = {
    "DUE TO PREEMPTION": "preempted",
    "DUE TO TIME LIMIT": "time limit",
    "DUE TO NODE FAILURE": "node",
    "DUE TO JOB REQUEUE": "requeued",
}
_OUT_OF_MEMORY = re.compile(r"slurmstepd.*(oom[_-]kill|Exceeded job memory limit|OOM Killed)", re.IGNORECASE)

_SHELL_SAYS = re.compile(r"^== attempt (?P<restart>\d+) (?P<what>starts|ends)\b(?:: exit code (?P<code>\d+))?")
"""Written by slurm/lib/attempt.sh, as the next one."""

_STARTS_ITSELF = "== state saved; starting again"

_ROUNDING = 2.0
"""Seconds: records have whole ones, and clocks are set."""

SILENCE = 600.0
"""Seconds without a sign of life, after which training has ended; it gives one a minute."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, with the line that says so."""

    cause: str
    """One of :data:`CAUSES`."""
    says: str = ""
    """The log's line, or the error."""


@dataclass(frozen=True)
class Judged:
    """An attempt and its ending."""

    attempt: Attempt
    ending: Ending


def judge(
    run: Path, running: Collection[str] | None, known: Mapping[str, Ending], asked: float = math.inf
) -> Iterator[Judged]:
    """All attempts of a run with their endings.

    Args:
        running: ids of the build's jobs (elements as ``<array>_<element>``) that SLURM has at work; None if it was not
            asked, in which case a task without an end and without a successor is taken to be running. So is training,
            whose jobs are none of the build's, while it gives signs of life. What runs outside SLURM on this host runs
            while its process is there.
        asked: when SLURM was asked, in seconds since the epoch; what began after that is taken to be running.
        known: attempt -> its ending, of those that were judged before; their logs may be gone.
    """
    attempts = list(read_attempts(run))
    latest: dict[tuple[str, int], int] = {}
    for attempt in attempts:
        key = (attempt.work, attempt.task)
        latest[key] = max(latest.get(key, 0), attempt.restart)
    logs: dict[str, list[str]] = {}
    for attempt in attempts:
        if attempt.name in known:
            yield Judged(attempt, known[attempt.name])
            continue
        has_successor = latest[attempt.work, attempt.task] > attempt.restart
        if attempt.cause in ("done", "error", "configuration", "time limit") and not has_successor:
            yield Judged(attempt, Ending(attempt.cause, _own_word(attempt)))
            continue
        if attempt.log is not None and attempt.log not in logs:
            logs = {attempt.log: _lines(run / attempt.log)}  # one at a time: attempts of a task are neighbours
        if attempt.job is None and attempt.host == socket.gethostname():
            may_run = _is_alive(attempt)
        elif attempt.step is None:
            may_run = time.time() - attempt.saved < SILENCE
        else:
            may_run = running is None or attempt.job in running or attempt.began > asked - 1
        at_work = may_run and not has_successor
        yield Judged(attempt, ending_of(attempt, logs.get(attempt.log or "", []), has_successor, at_work))


def _is_alive(attempt: Attempt) -> bool:
    """Whether its process is there, and not a later one that has got its number."""
    try:
        return process_start(attempt.pid) < attempt.began + _ROUNDING
    except OSError:
        return False


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def ending_of(attempt: Attempt, log: list[str], has_successor: bool, at_work: bool) -> Ending:
    """How an attempt ended: what SLURM says of it, else what it says itself, else what the batch shell says.

    Args:
        log: lines of the task's log, of all its attempts.
        has_successor: SLURM has started the task again since.
        at_work: it may still be running, as far as SLURM knows.
    """
    slurm, shell = _said(attempt, log)
    # a job that asks to be started again, at its time limit or for lost ranks, is ended for that (requeued)
    # (rank 0, which keeps the record, may be one of those)
    cause = "ranks lost" if shell and shell[0] == PASSING else attempt.cause
    if cause in ("time limit", "ranks lost") and (slurm is None or slurm.cause in ("requeued", cause)):
        return Ending(cause, shell[1] if shell else _own_word(attempt))
    # and where the site warns of preemption but none came, the limit had been shortened meanwhile
    by_itself = attempt.cause == "interrupted" and _STARTS_ITSELF in _lines_about(attempt, log)
    if by_itself and (slurm is None or slurm.cause == "requeued"):
        return Ending("time limit", _STARTS_ITSELF)
    if slurm is not None:
        return slurm
    if attempt.job is not None and has_successor:
        return Ending("node", f"{attempt.host} was lost: SLURM started the task again without ending this attempt")
    if attempt.cause == "interrupted" and attempt.job is not None:
        return Ending("preempted", f"{attempt.signal} came, and it ended before SLURM could end it")
    if attempt.cause not in (None, "superseded"):
        return Ending(attempt.cause, _own_word(attempt) or attempt.signal or "")
    if shell is not None and shell[0]:
        return Ending("killed" if shell[0] > 128 else "error", shell[1])
    if at_work:
        return Ending("running")
    if attempt.job is None:
        return Ending("killed", "it left no word")
    return Ending("node", f"{attempt.host} was lost: nothing there could write a word")


def _own_word(attempt: Attempt) -> str:
    return attempt.failures[-1].error if attempt.failures else ""


def _said(attempt: Attempt, log: list[str]) -> tuple[Ending | None, tuple[int, str] | None]:
    """What SLURM wrote about an attempt, and the exit code that the batch shell wrote, each with its line."""
    shell: tuple[int, str] | None = None
    for line in _lines_about(attempt, log):
        if _OUT_OF_MEMORY.search(line):
            return Ending("out of memory", line), shell
        if said := _SLURM_SAYS.search(line):
            why = next((cause for words, cause in _WHY.items() if words and words in said["why"]), "cancelled")
            return Ending(why, line), shell
        if (word := _SHELL_SAYS.match(line)) and word["code"] is not None:
            shell = (int(word["code"]), line)
    return None, shell


def _lines_about(attempt: Attempt, log: list[str]) -> Iterator[str]:
    """The lines of the log that tell of this attempt. Of a task whose node is thought dead two copies write to it."""
    current = 0
    for line in log:
        shell = _SHELL_SAYS.match(line)
        if shell and shell["what"] == "starts":
            current = int(shell["restart"])
        if shell:
            if int(shell["restart"]) == attempt.restart:
                yield line
        elif current == attempt.restart and _is_of_host(line, attempt.host):
            yield line


def _is_of_host(line: str, host: str) -> bool:
    said = _SLURM_SAYS.search(line)
    return said is None or said["host"] in (None, host)


def bad_nodes(judged: list[Judged]) -> list[str]:
    """Nodes that ended attempts of this run twice without a reason of SLURM's; the worst, if that is more than a third
    of those that did work: then something else is wrong, and a run without nodes would never end."""
    on_nodes = [each for each in judged if each.attempt.job]
    deaths = Counter(each.attempt.host for each in on_nodes if each.ending.cause in BLAMED_ON_NODE)
    most = len({each.attempt.host for each in on_nodes}) // 3
    return sorted(host for host, count in deaths.most_common(most) if count >= 2)
