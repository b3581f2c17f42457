"""Between packed sequences and optimiser steps: when a sequence is trained, and what is trained at a step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from codeio_hpc.config.recipe import TRAINING_STAGES, recipe_of
from codeio_hpc.errors import UserError
from codeio_hpc.launch.run import open_run
from codeio_hpc.tables import Row
from codeio_hpc.tables.manifest import changes
from codeio_hpc.tables.shards import part_path, published_shards, stage_folder
from codeio_hpc.train.counting import plural
from codeio_hpc.train.data import (
    Array,
    Corpus,
    Order,
    corpus_folder,
    data_fingerprint,
    open_corpus,
    order_of,
    read_columns,
)
from codeio_hpc.train.metrics import last_step, line_of
from codeio_hpc.train.plan import check_samples


def trained_at(run: Path, stage: str, sequence_id: str) -> dict[str, Any] | None:
    """When a stage trains a sequence; None where that stage was never begun here.

    Returns {"stage", "steps": 1-based, as in metrics.jsonl, all that are planned, "done": the last step that was done,
    "validation": whether the sequence is never trained but measured}.
    """
    try:
        _, order = _begun(run, stage)
    except UserError:  # or the recipe, or the data that it trained, are not there any more
        return None
    number = _number(run, stage, sequence_id)
    if number is None:
        return None
    place = next(iter(np.flatnonzero(order.trained == number).tolist()), None)
    steps = [] if place is None else order.batches.steps_of(place, order.steps)
    done = last_step(run / "train" / stage)
    return {"stage": stage, "steps": [step + 1 for step in steps], "done": done, "validation": place is None}


def batch_of(run: Path, step: int, stage: str | None) -> dict[str, Any]:
    """What is trained at an optimiser step, counted from 1; ``stage`` None: of the only training that was begun.

    Returns {"stage", "step", "total_steps", "loss" and "lr": None while the step was not done, "samples", "tokens",
    "sequences": [{"sequence_id", "tokens", "sample_ids"}] of the global batch, in its order}.

    Raises:
        UserError: no run, no such training or several, no such step, or one that was trained by another recipe.
    """
    open_run(run)
    stage = stage or _only_begun(run)
    corpus, order = _begun(run, stage)
    if not 1 <= step <= order.steps:
        has = f"{stage} has {plural(order.steps, 'step')}, counted from 1"
        raise UserError(f"--step {step}", has, f"give one from 1 to {order.steps}")
    batch = order.batch(step - 1)
    lengths = corpus.lengths()[batch].tolist()
    samples = int(corpus.documents()[batch].sum())
    counts = {"total_steps": order.steps, "samples": samples, "tokens": sum(lengths)}
    done = line_of(run / "train" / stage, step) or {}
    if done and (differing := changes({name: done.get(name, counts[name]) for name in counts}, counts)):
        raise UserError(
            f"{run}: step {step:,} of {stage} was trained by another recipe: {differing}",
            "what is trained when follows from the recipe",
            "restore the recipe that it was trained by",
        )
    rows = zip(_rows(run, stage, batch), lengths, strict=True)
    sequences = [{"sequence_id": row["sequence_id"], "tokens": n, "sample_ids": row["sample_ids"]} for row, n in rows]
    told = {"stage": stage, "step": step, "loss": done.get("loss"), "lr": done.get("lr")}
    return told | counts | {"sequences": sequences}


def batch_text(batch: dict[str, Any]) -> str:
    """The same for people: a line for each sequence, and one for each of its samples."""
    done = "to come" if batch["loss"] is None else f"loss {batch['loss']:.4f}, lr {batch['lr']:.3g}"
    counts = f"{plural(batch['samples'], 'sample')} in {plural(len(batch['sequences']), 'sequence')}"
    lines = [
        f"{batch['stage']}: step {batch['step']:,} of {batch['total_steps']:,} ({done})",
        f"{counts}, {plural(batch['tokens'], 'token')}:",
    ]
    for each in batch["sequences"]:
        lines.append(f"{each['sequence_id']}  {plural(each['tokens'], 'token')}")
        lines += [f"  {sample}" for sample in each["sample_ids"]]
    return "\n".join(lines)


def _only_begun(run: Path) -> str:
    begun = [name for name in TRAINING_STAGES if any((run / "train" / name).glob("data-*"))]
    if not begun:
        raise UserError(
            f"{run}: no training was begun",
            "what it trains when is known from then on",
            f"codeio train {run} --stage STAGE",
        )
    if len(begun) > 1:
        choices = " or ".join(f"--stage {name}" for name in begun)
        raise UserError(f"{run}: trainings of {' and '.join(begun)}", "each counts its own steps", f"add {choices}")
    return begun[0]


def _begun(run: Path, stage: str) -> tuple[Corpus, Order]:
    """The data of a training that was begun, and their order.

    Raises:
        UserError: it was not, not with the data that are there now, or its recipe is not there any more.
    """
    opened = open_run(run)
    recipe = recipe_of(opened.config)
    settings = recipe.stage(stage)
    folder = corpus_folder(run, stage, data_fingerprint(run, opened.shards, opened.config))
    if not folder.is_dir():
        check_samples(run, stage, recipe)
        raise UserError(
            f"{run}: no training of {stage} was begun with the data that are there now",
            "what it trains when is known from then on",
            f"codeio train {run} --stage {stage}",
        )
    corpus = open_corpus(folder)
    return corpus, order_of(corpus, settings, opened.config.seed)


def _number(run: Path, stage: str, sequence_id: str) -> int | None:
    """Of a sequence among those of its stage, as :func:`codeio_hpc.train.data.write_corpus` lays them down."""
    for path, own, before in _shards(run, stage):
        ids = read_columns(run, path, ["sequence_id"])["sequence_id"].take(own)
        place = pc.index(ids, sequence_id).as_py()
        if place >= 0:
            return before + int(place)
    return None


def _rows(run: Path, stage: str, numbers: Array) -> list[Row]:
    """Ids of the sequences with these numbers, and of their samples; reads those shards only that have any of them."""
    found: dict[int, Row] = {}
    for path, own, before in _shards(run, stage):
        here = numbers[(before <= numbers) & (numbers < before + len(own))]
        if len(here):
            rows = read_columns(run, path, ["sequence_id", "sample_ids"]).take(own[here - before]).to_pylist()
            found.update(zip(here.tolist(), rows, strict=True))
    return [found[number] for number in numbers.tolist()]


def _shards(run: Path, stage: str) -> Iterator[tuple[Path, Array, int]]:
    """Of each shard of tokens, in their order: where it is, which of its rows are the stage's, and how many of the
    stage's stand in the shards before it."""
    folder, before = stage_folder(run / "stages", "tokenise"), 0
    for path in (part_path(folder, shard) for shard in published_shards(folder)):
        stages = read_columns(run, path, ["training_stage"])["training_stage"]
        own = np.flatnonzero(pc.equal(stages, stage).to_numpy())
        yield path, own, before
        before += len(own)
