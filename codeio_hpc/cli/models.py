"""Models of a run: train, evaluate, report."""

from __future__ import annotations

import argparse
from pathlib import Path

from codeio_hpc.cli.verb import Verbs, add_verb, output


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this file."""
    train = add_verb(verbs, "train", _train, "train on a run's packed tokens")
    train.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    train.add_argument("--stage", required=True, choices=("stage1", "stage2", "rft"))
    where = train.add_mutually_exclusive_group()
    where.add_argument("--ranks", type=int, help="start this many ranks here (default: what SLURM says, else one)")
    where.add_argument("--site", metavar="NAME", help="submit it as a batch job on this SLURM site")

    evaluate = add_verb(verbs, "evaluate", _evaluate, "measure models on the run's held-out functions")
    evaluate.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    evaluate.add_argument("--model", action="append", dest="models", metavar="NAME", help="a folder of RUN/models")

    report = add_verb(verbs, "report", _report, "write the run's report page")
    report.add_argument("run", type=Path, metavar="RUN", help="the run folder")


def _train(options: argparse.Namespace) -> int:
    if options.site is not None:
        from codeio_hpc.train.submit import submit, submit_text

        done = submit(options.run, options.stage, options.site)
        output(options, done, submit_text(done))
        return 0
    from codeio_hpc.train.run import train

    return train(options.run, options.stage, options.ranks, options.json)


def _evaluate(options: argparse.Namespace) -> int:
    from codeio_hpc.evaluate.run import evaluate

    return evaluate(options.run, options.models, options.json)


def _report(options: argparse.Namespace) -> int:
    from codeio_hpc.report import write_report

    page = write_report(options.run)
    output(options, {"report": str(page)}, f"report: {page}")
    return 0
