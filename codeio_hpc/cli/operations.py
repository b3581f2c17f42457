"""A run at work, and afterwards: status, logs, cancel, pack, clean, usage."""

from __future__ import annotations

import argparse
import sys

from codeio_hpc.cli.verb import Verbs, add_run_verb, output


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this file."""
    status = add_run_verb(verbs, "status", _status, "show how far a run is, and why tasks ended")
    status.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=10.0,
        metavar="SECONDS",
        help="show it anew every so often (default: 10)",
    )

    logs = add_run_verb(verbs, "logs", _logs, "print the log of the task that failed last")
    logs.add_argument("--attempt", metavar="NAME", help="of this attempt; status and the records have the names")
    logs.add_argument("--path", action="store_true", help="print where it is, not what is in it")

    cancel = add_run_verb(verbs, "cancel", _cancel, "end a run's SLURM jobs; what is published stays")
    cancel.add_argument("--stuck", action="store_true", help="only what will never start")

    add_run_verb(verbs, "pack", _pack, "put logs and attempt records of a run at rest into one file")
    add_run_verb(verbs, "clean", _clean, "remove files that nobody needs: temporary files of killed tasks, submitit's")
    add_run_verb(verbs, "usage", _usage, "CPU-hours, GPU-hours, efficiency and files of a run")


def _status(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands
    from codeio_hpc.launch.status import status_text

    for status in commands.statuses(options.run, options.watch):
        if options.watch is not None and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        output(options, status, status_text(status))
    return 0


def _logs(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands

    log = commands.log(options.run, options.attempt)
    if log is None:
        output(options, {"attempt": None}, "no task of this run ran as a SLURM job: there are no logs")
        return 0
    output(options, log, log["place"] if options.path else f"{log['heading']}\n{log['text']}")
    return 0


def _cancel(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands

    ids = commands.cancel(options.run, options.stuck)
    output(options, {"cancelled": ids}, f"cancelled: {', '.join(ids) or 'nothing was in the queue'}")
    return 0


def _pack(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands

    done = commands.pack(options.run)
    files = f"{done['files_before']:,} files and folders before, {done['files_after']:,} after"
    output(options, done, f"packed {done['packed']:,} files; {files}")
    return 0


def _clean(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands

    done = commands.clean(options.run)
    output(options, done, f"removed {done['removed']:,} files, {done['bytes']:,} bytes")
    return 0


def _usage(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands
    from codeio_hpc.launch.usage import usage_text

    data = commands.usage(options.run)
    output(options, data, usage_text(data))
    return 0
