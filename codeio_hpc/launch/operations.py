"""What an operator does to a run: look at logs, end its jobs, pack and clean its files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.launch import slurm
from codeio_hpc.launch.causes import HARMLESS, Judged
from codeio_hpc.launch.jobs import elements_of, ids_of, jobs_at_work
from codeio_hpc.launch.packed import NAME, pack_all, packed_text
from codeio_hpc.launch.rounds import close_rounds, endings, left_by_submitit, read_rounds, round_folder
from codeio_hpc.launch.run import Run

_UNUSED_SECONDS = 24 * 3600
"""A temporary file this old has no writer any more: a task's time limit is shorter."""


@dataclass(frozen=True)
class Log:
    """The output of one attempt's task."""

    judged: Judged
    text: str
    place: str


def find_log(run: Run, attempt: str | None = None) -> Log | None:
    """The log to look at: of the attempt with this name, else of the last failure, else of the last attempt. None where
    nothing ran as a SLURM job: local builds print what goes wrong.

    Raises:
        UserError: there is no such attempt.
    """
    judged = [each for each in endings(run, None) if each.attempt.log is not None]
    wanted = [each for each in judged if attempt is None or each.attempt.name == attempt]
    if not wanted:
        if attempt is None:
            return None
        known = ", ".join(each.attempt.name for each in judged[-5:])
        raise UserError(
            f"{run.folder}: no log of {attempt}",
            "logs are named by the attempts that ran as SLURM jobs",
            f"the latest are: {known or 'none'}",
        )
    failed = [each for each in wanted if each.ending.cause not in (*HARMLESS, "preempted", "requeued", "time limit")]
    chosen = max(failed or wanted, key=lambda each: each.attempt.saved)
    return Log(chosen, *_text_of(run, run.folder / (chosen.attempt.log or "")))


def _text_of(run: Run, log: Path) -> tuple[str, str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace"), str(log)
    except OSError:
        pass
    name = os.path.relpath(log, run.folder)
    packed = packed_text(run.folder, name)
    return (packed[0], f"{packed[1]}: {name}") if packed else ("", f"{log} (it is gone)")


def cancel(run: Run, stuck_only: bool) -> list[str]:
    """End this run's jobs, or only what of them will never start; their ids. What is published stays."""
    jobs = jobs_at_work(run, slurm.queue())
    ids = elements_of([job for job in jobs if job.is_stuck]) if stuck_only else ids_of(jobs)
    slurm.cancel(ids)
    return ids


def pack(run: Run) -> dict[str, int]:
    """Put the logs and attempt records of a run that is at rest into one file. Round records stay.

    Returns {"files_before", "files_after", "packed"}, of the whole run folder.

    Raises:
        UserError: jobs of the run are at work, and write to these files; or what was packed earlier is damaged.
    """
    settle(run, "they write to the files that are packed")
    before = count_files(run.folder)
    done = [path for path in (run.folder / "attempts").glob("*.json") if path.is_file()]
    logs = (run.folder / "logs").rglob("*")
    done += [path for path in logs if path.is_file() and path.name not in ("round.json", NAME)]
    pack_all(run.folder, done)
    return {"files_before": before, "files_after": count_files(run.folder), "packed": len(done)}


def clean(run: Run) -> dict[str, Any]:
    """Remove what nobody needs: temporary files of killed writers, submitit's files of rounds that are over.

    Returns {"removed", "bytes"}.

    Raises:
        UserError: jobs of the run are at work.
    """
    settle(run, "they write to the files that are removed")
    removed = size = 0
    for path in _useless(run):
        size += path.lstat().st_size
        path.unlink(missing_ok=True)
        removed += 1
    return {"removed": removed, "bytes": size}


def _useless(run: Run) -> Iterator[Path]:
    for record in read_rounds(run):
        yield from left_by_submitit(round_folder(run, record))
    for parent, _, names in os.walk(run.folder):
        for name in names:
            path = Path(parent, name)
            if name.startswith(".") and name.endswith(".tmp") and time.time() - path.lstat().st_mtime > _UNUSED_SECONDS:
                yield path


def settle(run: Run, why: str) -> None:
    """Write down how what was sent to SLURM has ended (:func:`codeio_hpc.launch.rounds.close_rounds`).

    Args:
        why: it must have ended, as the second part of an error message.

    Raises:
        UserError: jobs of the run are at work.
    """
    if any(record.endings is None for record in read_rounds(run)):
        jobs = jobs_at_work(run, slurm.queue())
        if jobs:
            raise UserError(
                f"{run.folder}: SLURM jobs {', '.join(ids_of(jobs))} of this run are at work",
                why,
                f"leave it to them (codeio status {run.folder}), or end them: codeio cancel {run.folder}",
            )
    close_rounds(run)


def count_files(folder: Path) -> int:
    """Files and folders in a folder, itself included: what a quota of inodes counts."""
    return 1 + sum(len(folders) + len(names) for _, folders, names in os.walk(folder))
