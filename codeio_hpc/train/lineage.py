"""From a packed sequence to the optimiser steps that trained it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codeio_hpc.config import RunConfig, parse
from codeio_hpc.config.recipe import recipe_of
from codeio_hpc.errors import UserError
from codeio_hpc.tables.manifest import read_manifest
from codeio_hpc.tables.shards import part_path, published_shards, stage_folder
from codeio_hpc.train.data import open_corpus, order_of
from codeio_hpc.train.metrics import last_step


def trained_at(run: Path, stage: str, sequence_id: str) -> dict[str, Any] | None:
    """When a stage trains a sequence; None where that stage was never started here.

    Returns {"stage", "steps": 1-based, as in metrics.jsonl, all that are planned, "done": the last step that was done,
    "validation": whether the sequence is never trained but measured}.
    """
    folders = sorted((run / "train" / stage).glob("data-*"))
    manifest = read_manifest(run)
    if not folders or manifest is None:
        return None
    config = parse(RunConfig, manifest.config, f"{run}/run.json")
    try:
        settings = recipe_of(config).stage(stage)
    except UserError:  # the recipe is not there any more
        return None
    number = _number(run, stage, sequence_id)
    if number is None:
        return None
    order = order_of(open_corpus(folders[-1]), settings, config.seed)
    place = next(iter(np.flatnonzero(order.trained == number).tolist()), None)
    steps = [] if place is None else order.batches.steps_of(place, order.steps)
    done = last_step(run / "train" / stage)
    return {"stage": stage, "steps": [step + 1 for step in steps], "done": done, "validation": place is None}


def _number(run: Path, stage: str, sequence_id: str) -> int | None:
    """Of a sequence among those of its stage, as :func:`codeio_hpc.train.data.write_corpus` lays them down."""
    folder, before = stage_folder(run / "stages", "tokenise"), 0
    for shard in published_shards(folder):
        table = pq.read_table(part_path(folder, shard), columns=["sequence_id", "training_stage"])
        ids = table.filter(pc.equal(table["training_stage"], stage))["sequence_id"]
        place = pc.index(ids, sequence_id).as_py()
        if place >= 0:
            return before + int(place)
        before += len(ids)
    return None
