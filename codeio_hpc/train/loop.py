"""The training of one stage, as one rank sees it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from codeio_hpc.errors import UserError
from codeio_hpc.launch.notice import SAVED, Notice
from codeio_hpc.train import checkpoints
from codeio_hpc.train.collate import collate, probe_isolation
from codeio_hpc.train.data import Batches, Corpus, describe, micro_batches, open_corpus, write_corpus
from codeio_hpc.train.engines.base import Engine
from codeio_hpc.train.metrics import Metrics
from codeio_hpc.train.models import ensure_untrained, load_model, pad_token, publish_model, quieten
from codeio_hpc.train.plan import TrainingPlan
from codeio_hpc.train.world import World

DONE = 0


def train_rank(plan: TrainingPlan, world: World, notice: Notice) -> int:
    """Train to the end, or to a notice; the exit code. All ranks call this."""
    if world.rank == 0:  # the others wait for it in join(): rank 0 opens the meeting place
        _corpus(plan, write_corpus(plan.run, plan.name, plan.data))
        quieten()
        if plan.name == "stage1":
            ensure_untrained(plan)
    from codeio_hpc.train.engines.deepspeed import DeepSpeedEngine, join

    device = join(world)
    quieten()
    corpus = _corpus(plan, write_corpus(plan.run, plan.name, plan.data))
    batches = _batches(plan, corpus)
    total = plan.stage.steps or batches.per_epoch * (plan.stage.epochs or 1)
    dtype = plan.recipe.dtype.cuda if device.type == "cuda" else plan.recipe.dtype.cpu
    _seed(plan.seed, world.rank)
    engine = DeepSpeedEngine(load_model(plan, dtype), plan.stage, total, dtype, world, device)
    try:
        return _train(plan, world, notice, engine, corpus, batches, total)
    finally:
        engine.close()


def _corpus(plan: TrainingPlan, folder: Path) -> Corpus:
    corpus = open_corpus(folder)
    longest = int(corpus.lengths().max()) if len(corpus) else 0
    if not int(corpus.trained.sum()):
        raise UserError(
            f"{plan.run}: no samples of {plan.name}",
            "there is nothing to train on",
            "build with assemble.instructions=direct-answers" if plan.name == "stage2" else "build more data",
        )
    if longest > plan.recipe.sequence_length:
        raise UserError(f"a sequence of {longest} tokens", "longer than the recipe's", "raise sequence_length")
    return corpus


def _batches(plan: TrainingPlan, corpus: Corpus) -> Batches:
    sizes = corpus.documents() if plan.stage.batch_unit == "samples" else np.ones(len(corpus), np.int64)
    difficulty = corpus.difficulty if plan.stage.order == "curriculum" else None
    return Batches(sizes, plan.stage.batch_size, plan.seed, difficulty)


def _seed(seed: int, rank: int) -> None:
    import random

    import torch

    torch.manual_seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)
    random.seed(seed + rank)


def _train(
    plan: TrainingPlan,
    world: World,
    notice: Notice,
    engine: Engine,
    corpus: Corpus,
    batches: Batches,
    total: int,
) -> int:
    config = engine.module.config
    leaked = probe_isolation(engine.module, int(config.vocab_size), plan.stage.micro_batch, engine.device)
    found = checkpoints.resumable(plan.checkpoints, plan.identity, world.size)
    found = engine.gather(found)[0]
    done = 0
    if found is not None:
        path, complete = found
        checkpoints.load(path, complete, engine, world)
        done = complete.step
    metrics = None
    if world.rank == 0:
        _tell_start(plan, corpus, world, done, total, leaked)
        metrics = Metrics(plan.run / "train" / plan.name / "metrics.jsonl", done, total)
    saved, stop = done, False
    while done < total and not stop:
        stop = _one_step(done, engine, corpus, batches, plan, world, notice, metrics)
        done += 1
        if stop or done == total or done % plan.stage.save_every == 0:
            start = time.monotonic()
            if metrics:
                metrics.sync()
            checkpoints.save(plan.checkpoints, done, engine, world, plan.identity, plan.stage.keep)
            if metrics:
                metrics.saved(done, time.monotonic() - start)
            saved = done
    if metrics:
        metrics.close()
    if done < total:
        if world.rank == 0:
            print(f"{plan.name}: told to stop; checkpoint of step {saved} is published", file=sys.stderr)
        return SAVED
    _export(plan, world, engine, total)
    return DONE


def _one_step(
    step: int,
    engine: Engine,
    corpus: Corpus,
    batches: Batches,
    plan: TrainingPlan,
    world: World,
    notice: Notice,
    metrics: Metrics | None,
) -> bool:
    """One optimiser step, written down; whether some rank was told to stop."""
    start = time.monotonic()
    batch = batches.batch(step)
    pad = pad_token(engine.module)
    mine = [collate(corpus, part, pad) for part in micro_batches(batch, world.rank, world.size, plan.stage.micro_batch)]
    targets = int(corpus.trained[batch].sum())
    result = engine.step(mine, targets, notice.received is not None)
    if metrics:
        line: dict[str, Any] = {
            "step": step + 1,
            "loss": result.loss,
            "lr": result.lr,
            "grad_norm": result.grad_norm,
            "samples": int(corpus.documents()[batch].sum()),
            "tokens": int(corpus.lengths()[batch].sum()),
            "trained_tokens": targets,
            "seconds": round(time.monotonic() - start, 4),
        }
        metrics.add(line)
    return result.notice


def _tell_start(plan: TrainingPlan, corpus: Corpus, world: World, done: int, total: int, leaked: float) -> None:
    origin = f"from step {done}" if done else f"from models/{plan.start_folder.name}, with a fresh optimiser"
    print(f"{plan.name}: {total} steps, {origin}, {world.size} rank{'s' * (world.size > 1)}", file=sys.stderr)
    print(f"{plan.name}: {describe(corpus, plan.recipe.sequence_length)}", file=sys.stderr)
    print(f"{plan.name}: samples of a sequence do not see each other (largest change {leaked:.1g})", file=sys.stderr)


def _export(plan: TrainingPlan, world: World, engine: Engine, steps: int) -> None:
    if world.rank == 0:
        record = {"identity": plan.identity, "start": plan.start, "stage": plan.name, "steps": steps}
        publish_model(plan.models / plan.name, plan, record, engine.export)
    engine.gather(None)
