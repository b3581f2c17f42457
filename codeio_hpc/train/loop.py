"""The training of one stage, as one rank sees it. Loads torch."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.launch.notice import SAVED, Notice
from codeio_hpc.tables.files import publish_file
from codeio_hpc.train.checkpoints import resume
from codeio_hpc.train.checkpoints.random import RandomState, seed
from codeio_hpc.train.checkpoints.saver import Rules, Saver
from codeio_hpc.train.collate import MicroBatch, collate
from codeio_hpc.train.counting import plural
from codeio_hpc.train.data import (
    Array,
    Corpus,
    cautions,
    describe,
    micro_batches,
    open_corpus,
    order_of,
    write_corpus,
)
from codeio_hpc.train.engines.base import Engine
from codeio_hpc.train.engines.open import open_engine
from codeio_hpc.train.gauge import Gauge
from codeio_hpc.train.meeting import Ranks, meet
from codeio_hpc.train.metrics import Metrics
from codeio_hpc.train.models import load_model, pad_token, publish_model, quieten
from codeio_hpc.train.plan import TrainingPlan
from codeio_hpc.train.prepare import prepare
from codeio_hpc.train.proof import Proof, proof_text, prove
from codeio_hpc.train.reading import files_of, refuse_changed
from codeio_hpc.train.schedule import learning_rate
from codeio_hpc.train.spikes import SpikeGuard, last_steps
from codeio_hpc.train.telemetry import Telemetry, TensorBoard, WandB
from codeio_hpc.train.watchdog import Watchdog
from codeio_hpc.train.world import World

DONE = 0
_AGAIN = "the same command goes on from there"


def train_rank(plan: TrainingPlan, world: World, notice: Notice, reach: Callable[[str], None]) -> int:
    """Train to the end, or to a notice; the exit code. All ranks call this. ``reach`` is told of each moment.

    Raises:
        RanksLostError: the others did not come, or are gone.
    """
    ranks = meet(world)
    reach("met")
    quieten()
    try:
        return _train(plan, ranks, notice, reach)
    except (UserError, RunFailedError) as error:
        if not ranks.first_knows():
            print(f"codeio: rank {ranks.rank}: {error}", file=sys.stderr)
        raise
    finally:
        ranks.leave()


def _train(plan: TrainingPlan, ranks: Ranks, notice: Notice, reach: Callable[[str], None]) -> int:
    ranks.first_does(lambda: prepare(plan))
    corpus = open_corpus(write_corpus(plan.run, plan.name, plan.data))
    found = resume.find(plan.checkpoints, plan.identity, plan.settings, ranks)
    if _is_told(plan, ranks, notice):
        return SAVED
    if ranks.rank == 0:
        _tell(plan, f"loading {plan.start_name}{' and its checkpoint' if found else ''}")
    dtype = plan.recipe.dtype.cuda if ranks.device.type == "cuda" else plan.recipe.dtype.cpu
    refuse_changed(plan.start_folder, resume.changed(plan.start_folder, files_of(plan.start_folder), ranks))
    model = ranks.together(lambda: load_model(plan, dtype, read=ranks.rank == 0))
    engine = open_engine(plan, ranks, dtype, model, found and found[1].layout)
    seed(plan.seed, engine.data_parallel_rank)
    watchdog = Watchdog(ranks, plan.recipe.hang_minutes * 60)
    training = Training(plan, ranks, notice, watchdog, engine, corpus)
    try:
        training.prove()
        if found is not None:
            path, complete = found
            engine.load(path)
            training.restore(complete.step, complete.samples, complete.overflows)
            if (complete.layout, complete.ranks) == (engine.layout, ranks.size):
                RandomState.read(path / f"random-{ranks.rank:05d}.pt").restore()
            else:
                seed(plan.seed, engine.data_parallel_rank, complete.step)
                if ranks.rank == 0:
                    _tell(plan, f"the checkpoint is of {complete.layout}: losses differ from its own by rounding now")
        reach("loaded")
        return SAVED if _is_told(plan, ranks, notice) else training.run(reach)
    finally:
        watchdog.end()
        engine.close()


def _is_told(plan: TrainingPlan, ranks: Ranks, notice: Notice) -> bool:
    """Whether a rank was told to stop while all of them were loading: there is nothing to save then."""
    told = ranks.total([float(notice.received is not None)])[0] > 0
    if told and ranks.rank == 0:
        _tell(plan, f"told to stop before a step was done; {_AGAIN}")
    return told


@dataclass(frozen=True)
class Agreed:
    """What all ranks agreed on behind a micro-batch."""

    loss: float | None
    """The mean over the global batch; None: it was not finished, and what was accumulated is dropped."""
    stop: bool
    """One of them was told to."""
    save: bool = False
    """It is time for a checkpoint, once the step is done."""


@dataclass
class Progress:
    """How far a training is: what a checkpoint brings back, besides the engine's state."""

    step: int = 0
    """Optimiser steps that were done."""
    samples: int = 0
    overflows: int = 0
    """Steps that were repeated because float16 overflowed."""


class Training:
    """One stage of training on one rank. All ranks go through the same steps, micro-batch by micro-batch."""

    def __init__(
        self,
        plan: TrainingPlan,
        ranks: Ranks,
        notice: Notice,
        watchdog: Watchdog,
        engine: Engine,
        corpus: Corpus,
    ) -> None:
        self._plan, self._ranks, self._notice, self._watchdog = plan, ranks, notice, watchdog
        self._engine, self._corpus = engine, corpus
        self._folder = plan.run / "train" / plan.name
        self._pad = pad_token(engine.config)
        self._order = order_of(corpus, plan.stage, plan.seed)
        self._total = self._order.steps
        self._progress = Progress()
        keep = (plan.stage.keep, plan.stage.keep_every)
        rules = Rules(plan.checkpoints, plan.identity, plan.tokenizer, *keep, plan.settings)
        self._saver = Saver(rules, engine, ranks, self._published)
        self._saving = (time.monotonic(), 0.0)
        """When the latest save was begun (else: this training), and for how many seconds training waited."""
        self._random = RandomState.now()
        """After the last step that was done: what is begun and not finished draws from it again."""
        self._metrics: Metrics | None = None
        self._gauge = Gauge(plan, ranks)
        self._spikes = SpikeGuard(plan.recipe.spike)
        self._proof: Proof | None = None

    def prove(self) -> None:
        """Look at the data and try the attention path before anything is trained."""
        from codeio_hpc.stages.tokenise import load_tokenizer

        order = np.concatenate([self._order.batch(step) for step in range(min(4, self._total))])
        rows = self._plan.stage.micro_batch
        self._proof = proof = prove(self._corpus, order, load_tokenizer(self._plan.source), self._engine, rows)
        self._engine.probe_loss()
        if self._ranks.rank == 0:
            publish_file(self._folder / "proof.json", (json.dumps(vars(proof), indent=1) + "\n").encode())

    def restore(self, step: int, samples: int, overflows: int) -> None:
        """Go on behind this step, from its checkpoint."""
        self._progress = Progress(step, samples, overflows)
        self._saver.saved = step

    def run(self, reach: Callable[[str], None]) -> int:
        """Train; the exit code. ``reach`` is told when a step is done."""
        done = self._progress.step
        self._metrics = self._ranks.together(lambda: self._open_metrics(done))
        spike = self._plan.recipe.spike
        before = last_steps(self._folder, spike.window) if self._metrics else []
        self._spikes = SpikeGuard(spike, self._ranks.gather(before)[0])
        self._random = RandomState.now()
        self._watchdog.begin()
        stop = False
        while done < self._total and not stop:
            agreed = self._step()
            stop = agreed.stop
            if self._progress.step > done:
                reach("step")
            done = self._progress.step
            if agreed.save and done < self._total and not stop:
                self._save(self._validate())
        self._saver.finish()
        if self._saver.saved != done:
            self._save(self._validate() if done == self._total else None)
        self._end(done)
        return DONE if done == self._total else SAVED

    def _open_metrics(self, done: int) -> Metrics | None:
        if self._ranks.rank:
            return None
        self._tell_start()
        return Metrics(self._folder, done, self._total, self._telemetry(done))

    def _telemetry(self, done: int) -> list[Telemetry]:
        plan = self._plan
        telemetry: list[Telemetry] = [TensorBoard(self._folder, done)]
        if plan.recipe.telemetry.wandb:
            name = f"{plan.run.name}-{plan.name}"
            settings = plan.stage.model_dump(mode="json")
            telemetry.append(WandB(self._folder, plan.recipe.telemetry.wandb, name, plan.identity, settings))
        return telemetry

    def _end(self, done: int) -> None:
        self._watchdog.end()  # writing to a slow file system is no hang
        self._saver.close()
        if self._metrics:
            self._metrics.close()
        self._saver.require(done)
        if done < self._total and self._ranks.rank == 0:
            _tell(self._plan, f"told to stop; checkpoint of step {done} is published; {_AGAIN}")
        if done == self._total:
            self._export()

    def _step(self) -> Agreed:
        """One optimiser step, if nobody is told to stop before its end."""
        start, step = time.monotonic(), self._progress.step
        batch = self._order.batch(step)
        targets, mine = int(self._corpus.trained[batch].sum()), self._mine(batch)
        lr = learning_rate(self._plan.stage, step, self._total)
        while True:
            agreed = self._accumulate(mine, targets)
            if agreed.loss is None:
                return agreed
            self._watchdog.at(f"step {step + 1}, update")
            update = self._engine.update(lr)
            if update.applied:
                break
            self._repeat(step)
        spike = self._spikes.judge(step + 1, {"loss": agreed.loss, "grad_norm": update.grad_norm})
        if spike and self._metrics:
            _tell(self._plan, spike)
        self._random = RandomState.now()
        self._progress.step += 1
        samples = int(self._corpus.documents()[batch].sum())
        self._progress.samples += samples
        if self._metrics:
            line = {
                "step": step + 1,
                "loss": agreed.loss,
                "lr": lr,
                "grad_norm": update.grad_norm,
                "samples": samples,
                "tokens": int(self._corpus.lengths()[batch].sum()),
                "trained_tokens": targets,
                "micro_batches": len(mine),
                "loss_scale": update.loss_scale,
                "overflows": self._progress.overflows,
                "spikes": self._spikes.row,
                "seconds": round(time.monotonic() - start, 4),
            }
            self._metrics.add(line | self._gauge.read(line["tokens"], line["seconds"]))
        return agreed

    def _accumulate(self, mine: list[Array], targets: int) -> Agreed:
        """The gradients of a global batch, of which these micro-batches are this rank's.

        At the border of every micro-batch the ranks agree on whether one of them was told to stop.

        Raises:
            RunFailedError: the loss is not finite.
        """
        step = self._progress.step
        loss: Any = 0.0
        for number, sequences in enumerate(mine, start=1):
            self._watchdog.at(f"step {step + 1}, micro-batch {number} of {len(mine)}")
            last = number == len(mine)
            loss = loss + self._engine.accumulate(self._collate(sequences), targets, last)
            if not last and self._ranks.total([self._told])[0]:
                return Agreed(None, stop=True)
        mean = float(loss)  # waits for the device
        self._watchdog.forward_took(self._engine.forward_seconds())
        value, told, busy, due = self._ranks.total([mean, self._told, self._saver.busy, self._due])
        if not math.isfinite(value):
            raise RunFailedError(
                f"step {step + 1}: the loss is {value}; nothing was changed by this step and nothing is saved of it. "
                "Going on from the last checkpoint meets the same batch: lower lr, or, with float16, train in bfloat16"
            )
        if self._saver.pending and not busy:
            self._saver.finish()
        return Agreed(value, told > 0, due > 0)

    def _repeat(self, step: int) -> None:
        """The gradients were not finite.

        Raises:
            RunFailedError: and a smaller loss scale is not the answer.
        """
        dtype = self._plan.recipe.dtype
        if (dtype.cuda if self._ranks.device.type == "cuda" else dtype.cpu) != "float16":
            raise RunFailedError(
                f"step {step + 1}: the gradient is not finite; the step was not applied and nothing is saved of it. "
                "The last checkpoint is the one to go on from, with a lower lr or without the samples of this batch"
            )
        self._progress.overflows += 1

    @property
    def _told(self) -> float:
        return float(self._notice.received is not None)

    @property
    def _due(self) -> bool:
        """Whether this rank would save behind the step at hand. A save that is not over puts the next one off."""
        stage, began, step = self._plan.stage, self._saving[0], self._progress.step + 1
        counted = any(every is not None and step % every == 0 for every in (stage.save_every, stage.keep_every))
        minutes = math.inf if self._saver.pending or stage.save_minutes is None else stage.save_minutes
        return counted or time.monotonic() - began >= 60 * minutes

    def _mine(self, batch: Array) -> list[Array]:
        rank, size = self._engine.data_parallel_rank, self._engine.data_parallel_size
        return micro_batches(batch, rank, size, self._plan.stage.micro_batch)

    def _collate(self, sequences: Array) -> MicroBatch:
        return collate(self._corpus, sequences, self._pad)

    def _validate(self) -> float | None:
        """Mean loss of the sequences that are never trained; None where there are none, or somebody is told to stop."""
        validated = self._order.validated
        if not len(validated):
            return None
        total = 0.0
        for number, sequences in enumerate(self._mine(validated), start=1):
            self._watchdog.at(f"validation, micro-batch {number}")
            total += self._engine.loss(self._collate(sequences))
            if self._ranks.total([self._told])[0]:
                return None
        loss = self._ranks.total([total])[0] / int(self._corpus.trained[validated].sum())
        if self._metrics:
            self._metrics.validated(self._progress.step, loss)
        return loss

    def _save(self, validation_loss: float | None) -> None:
        self._watchdog.at(f"step {self._progress.step}, saving")
        start = time.monotonic()
        self._saver.finish()
        if self._metrics:
            self._metrics.sync()
        progress = self._progress
        self._saver.begin(progress.step, self._random, progress.samples, progress.overflows, validation_loss)
        self._saving = (start, time.monotonic() - start)

    def _published(self, step: int) -> None:
        start, waited = self._saving
        if self._metrics:
            self._metrics.saved(step, waited, time.monotonic() - start)

    def _tell_start(self) -> None:
        plan, step = self._plan, self._progress.step
        origin = f"from step {step}" if step else f"from {plan.start_name}, with a fresh optimiser"
        size = self._ranks.size
        _tell(plan, f"{plural(self._total, 'step')}, {origin}, {plural(size, 'rank')}")
        for caution in cautions(self._order, plan.stage, self._engine.data_parallel_size):
            _tell(plan, caution)
        _tell(plan, describe(self._corpus, plan.capacity))
        if len(self._order.validated):
            _tell(plan, f"{len(self._order.validated):,} of the sequences are never trained, but measured")
        for line in proof_text(self._proof) if self._proof else ():
            _tell(plan, line)

    def _export(self) -> None:
        plan = self._plan
        record: dict[str, Any] = {"identity": plan.identity, "settings": plan.settings}
        record |= {"start": plan.start, "start_folder": plan.start_name}
        record |= {
            "stage": plan.name,
            "steps": self._total,
            "samples": self._progress.samples,
            "overflows": self._progress.overflows,
        }
        publish_model(plan.models / plan.name, plan, record, self._engine.export, self._ranks.rank == 0)
        self._ranks.gather(None)


def _tell(plan: TrainingPlan, text: str) -> None:
    print(f"{plan.name}: {text}", file=sys.stderr, flush=True)
