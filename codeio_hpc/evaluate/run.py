"""What `codeio evaluate` does."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codeio_hpc.config import settings_hash
from codeio_hpc.config.recipe import TRAINING_STAGES
from codeio_hpc.errors import UserError
from codeio_hpc.evaluate.io_prediction import Majority, Scored, choose, score, summarise
from codeio_hpc.evaluate.statistics import mcnemar
from codeio_hpc.launch.run import Run, open_run, write_json
from codeio_hpc.tables import Row
from codeio_hpc.tables.files import publish_file, sha256
from codeio_hpc.tables.shards import read_stage
from codeio_hpc.train.data import has_samples

MODELS = ("untrained", "stage1", "stage2", "rft")
BASELINE = "majority"


def evaluate(run_folder: Path, models: Sequence[str] | None, as_json: bool) -> int:
    """Score models of the run on its held-out functions; writes ``evaluation/`` and prints a table. Exit code 0.

    Raises:
        UserError: there is no model or no held-out function to evaluate.
    """
    run = open_run(run_folder)
    home = with_questions(run)
    folders = _folders(run, models)
    done = _read(run)
    fingerprint = _fingerprint(run, folders)
    if done is not None and done.get("fingerprint") == fingerprint:
        _show(done, as_json, f"evaluated already; {run.folder}/evaluation/summary.json")
        return 0
    summary = {"fingerprint": fingerprint, **_evaluate(run, home, folders, quiet=as_json)}
    write_json(run.folder / "evaluation" / "summary.json", summary)
    _show(summary, as_json, f"written to {run.folder}/evaluation/summary.json")
    return 0


def _folders(run: Run, models: Sequence[str] | None) -> dict[str, Path]:
    found = {name: run.folder / "models" / name for name in models or MODELS}
    missing = [name for name, folder in found.items() if not (folder / "config.json").exists()]
    if models is None:
        found = {name: folder for name, folder in found.items() if name not in missing}
    if not found or (models is not None and missing):
        raise UserError(
            f"{run.folder}/models has no {', '.join(missing)}",
            "there is nothing to evaluate before training",
            f"train first: codeio train {run.folder} --stage {_first_stage(run)}",
        )
    return found


def _first_stage(run: Run) -> str:
    """The stage that the run's training begins with."""
    return next((stage for stage in TRAINING_STAGES if has_samples(run.folder, stage)), TRAINING_STAGES[0])


def _fingerprint(run: Run, folders: dict[str, Path]) -> str:
    """Changes with any model's weights and with any setting of the run."""
    weights = {name: [sha256(path) for path in sorted(folder.glob("*"))] for name, folder in folders.items()}
    return settings_hash([weights, run.config.identity()])


def _read(run: Run) -> dict[str, Any] | None:
    try:
        summary: dict[str, Any] = json.loads((run.folder / "evaluation" / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary


def _evaluate(run: Run, home: Run, folders: dict[str, Path], quiet: bool) -> dict[str, Any]:
    from codeio_hpc.evaluate.generate import generate
    from codeio_hpc.launch.plan import places
    from codeio_hpc.sandbox import Limits, Pool

    place = next(place for place in places(home) if place.stage.name == "pose")
    instances = list(read_stage(place.folder))
    settings, sampling = run.config.evaluate, home.config.sample
    rows = choose(instances, settings.max_instances, run.config.seed)
    if not rows:
        raise UserError(
            f"{run.folder} has no held-out questions",
            "evaluation asks about functions that were kept out of training",
            "build with split.heldout_fraction above 0, and more source files",
        )
    majority = Majority(instances)
    responses = {BASELINE: [(majority.answer(row), True) for row in rows]}
    for name, folder in folders.items():
        progress = _Progress(name, len(rows), quiet)
        replies = generate(folder, [row["prompt"] for row in rows], settings.max_new_tokens, progress.show)
        responses[name] = [(reply.text, reply.finished) for reply in replies]
    limits = Limits(cpu_seconds=sampling.most_cpu_seconds, memory_bytes=sampling.memory_mb * 2**20)
    with Pool(limits=limits, minimum=run.config.sandbox.minimum) as pool:
        scores = {name: score(rows, given, pool, home.config) for name, given in responses.items()}
    for name, scored in scores.items():
        _write_answers(run, name, scored)
    return _summary(rows, scores)


def with_questions(run: Run) -> Run:
    """The run that has the held-out functions: this one, or the first one that its samples were taken from.

    Raises:
        UserError: none has.
    """
    if run.config.sources:
        return run
    for source in run.config.samples:
        if source.run is not None and (found := open_run(Path(source.run))).config.sources:
            return found
    raise UserError(
        f"{run.folder} has no held-out functions",
        "its samples were not made of code, here or in a run that they were taken from",
        f"train on these and on a run of code: codeio tokenize CODE {run.folder} --recipe R --run NEW",
    )


class _Progress:
    """A line a model on stderr, rewritten in a terminal."""

    def __init__(self, name: str, total: int, quiet: bool) -> None:
        self._name, self._total = name, total
        self._quiet = quiet or not sys.stderr.isatty()
        self._started = time.monotonic()

    def show(self, done: int) -> None:
        """``done`` questions are answered."""
        if self._quiet:
            return
        elapsed = time.monotonic() - self._started
        left = elapsed * (self._total - done) / done if done else 0
        end = "\n" if done == self._total else ""
        text = f"{self._name}: {done}/{self._total} answers, {done / elapsed:.0f}/s, {left:.0f} s left"
        sys.stderr.write(f"\r\x1b[2K{text}{end}")
        sys.stderr.flush()


def _write_answers(run: Run, name: str, scored: Sequence[Scored]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([{**asdict(one), "correct": one.correct} for one in scored]), sink)
    publish_file(run.folder / "evaluation" / f"{name}.parquet", bytes(sink.getvalue()))


def _summary(rows: Sequence[Row], scores: dict[str, list[Scored]]) -> dict[str, Any]:
    names = list(scores)
    return {
        "items": len(rows),
        "functions": len({row["function_id"] for row in rows}),
        "models": {name: summarise(scored) for name, scored in scores.items()},
        "comparisons": [
            _compare(first, scores[first], second, scores[second])
            for place, second in enumerate(names)
            for first in names[place + 1 :]
        ],
    }


def _compare(first: str, ours: Sequence[Scored], second: str, theirs: Sequence[Scored]) -> dict[str, Any]:
    only_first = sum(a.correct and not b.correct for a, b in zip(ours, theirs, strict=True))
    only_second = sum(b.correct and not a.correct for a, b in zip(ours, theirs, strict=True))
    if only_second > only_first:
        first, second, only_first, only_second = second, first, only_second, only_first
    p = mcnemar(only_first, only_second)
    return {"better": first, "than": second, "only_first": only_first, "only_second": only_second, "p": p}


def _show(summary: dict[str, Any], as_json: bool, end: str) -> None:
    if as_json:
        print(json.dumps(summary, indent=1))
        return
    print(f"exact match on {summary['items']} questions about {summary['functions']} held-out functions")
    print(f"  {'':<12}{'all':>8}{'95 % interval':>18}{'output':>9}{'input':>9}{'no answer':>11}{'cut off':>9}")
    models = summary["models"]
    known = [name for name in (BASELINE, *MODELS) if name in models]
    for name in [*known, *sorted(models.keys() - set(known))]:
        model = models[name]
        interval = f"{model['low']:.3f} to {model['high']:.3f}"
        rates = [model["by_direction"].get(way, {"exact_match": 0.0})["exact_match"] for way in ("output", "input")]
        silent = model["categories"].get("no_answer", 0)
        print(
            f"  {name:<12}{model['exact_match']:>8.3f}{interval:>18}{rates[0]:>9.3f}{rates[1]:>9.3f}"
            f"{silent:>11}{model['cut_off']:>9}"
        )
    for pair in summary["comparisons"]:
        if pair["p"] < 0.05:
            print(f"  {pair['better']} is better than {pair['than']}: p = {pair['p']:.2g} (McNemar, exact)")
    print(f"  {end}")
