"""The rows of a run: export, show, rejected."""

from __future__ import annotations

import argparse
from pathlib import Path

from codeio_hpc.cli.verb import LATEST, Verbs, add_run_verb, add_verb, output


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this file."""
    export = add_verb(
        verbs, "export", _export, "write the samples in the format of another trainer, with a dataset card"
    )
    export.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    export.add_argument(
        "--as",
        dest="form",
        default="hf",
        metavar="FORMAT",
        help="hf (default), parquet, jsonl, messages, trl, axolotl, llama-factory, alpaca, public",
    )
    export.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/export/FORMAT-STAGE")
    export.add_argument(
        "--stage", default="stage1", choices=("stage1", "stage2", "rft"), help="of training (default: stage1)"
    )

    _add_show(verbs)

    rejected = add_verb(verbs, "rejected", _rejected, "what was dropped, by stage and reason")
    rejected.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    rejected.add_argument("--why", metavar="REASON", help="list the rows that were dropped for this reason")
    rejected.add_argument("--stage", metavar="STAGE", help="only by this stage")
    rejected.add_argument("--limit", type=int, default=20, metavar="N", help="rows listed with --why (default: 20)")


def _add_show(verbs: Verbs) -> None:
    text = "follow one row: from its raw file to it, and what was made of it; or see what a step of training trains"
    show = add_run_verb(verbs, "show", _show, text)
    show.usage = (
        "%(prog)s [-h] [--json] [--full] [RUN] ID\n       %(prog)s [-h] [--json] [RUN] --step K [--stage STAGE]"
    )
    show.add_argument(
        "id", nargs="?", metavar="ID", help="a row's id, from any table, `codeio rejected` or the report page"
    )
    show.add_argument("--full", action="store_true", help="long texts are not cut")
    show.add_argument(
        "--step", type=int, metavar="K", help="what is trained at this optimiser step, counted from 1 as in the metrics"
    )
    show.add_argument(
        "--stage", choices=("stage1", "stage2", "rft"), help="of that training (default: the only one that was begun)"
    )


def _export(options: argparse.Namespace) -> int:
    from codeio_hpc.export.write import export

    done = export(options.run, options.form, options.out, options.stage)
    state = "is there already" if done["done_before"] else "written"
    output(options, done, f"{done['samples']:,} samples in {len(done['files'])} files {state}: {done['out']}")
    return 0


def _show(options: argparse.Namespace) -> int:
    run, row_id = options.run, options.id
    if row_id is None and options.step is None and run != LATEST:
        run, row_id = LATEST, str(run)  # one word alone is the ID
    if (row_id is None) == (options.step is None):
        options.verb.error("give either the ID of a row or --step K")
    if options.step is not None:
        return _show_step(options)
    if options.stage is not None:
        options.verb.error("--stage goes with --step")
    from codeio_hpc.report.rows import show, show_text

    shown = show(run, row_id)
    output(options, shown, show_text(shown, options.full))
    return 0


def _show_step(options: argparse.Namespace) -> int:
    from codeio_hpc.train.lineage import batch_of, batch_text

    batch = batch_of(options.run, options.step, options.stage)
    output(options, batch, batch_text(batch))
    return 0


def _rejected(options: argparse.Namespace) -> int:
    from codeio_hpc.report.rows import rejected, rejected_text

    found = rejected(options.run, options.why, options.stage, options.limit)
    output(options, found, rejected_text(found))
    return 0
