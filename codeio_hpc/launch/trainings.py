"""How far the trainings of a run are, from their files alone: nothing of the trainer is loaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codeio_hpc.config.recipe import TRAINING_STAGES
from codeio_hpc.launch.causes import Judged
from codeio_hpc.launch.progress import clock

_TAIL = 65_536
"""Bytes of the metrics that are read: some hundred steps."""
_PACE = 20
"""Steps whose time tells how long the others will take."""
_CHECKPOINT = re.compile(r"step-(\d+)")
MARKER = "COMPLETE.json"
"""Written last into a checkpoint: it is whole."""
RECORD = "training.json"
"""In each folder of ``models/``: how the model came to be. Its presence says that the training is finished."""


@dataclass(frozen=True)
class TrainingStatus:
    """How far the training of one stage is."""

    stage: str
    state: str
    """``finished``, ``running``, or ``stopped``: it is not at its end and nobody works on it."""
    step: int
    """Optimiser steps that were done, with those behind the last checkpoint."""
    steps: int | None
    """In all; None before the first one is done."""
    loss: float | None
    """Of the last step."""
    checkpoint: int | None
    """Step of the newest published checkpoint."""
    seconds_left: float | None
    """While it runs, at the pace of its last steps."""
    ended: str | None
    """UTC; of the last attempt, if it could write that down."""
    cause: str | None
    """How the last attempt ended; see :data:`codeio_hpc.launch.causes.CAUSES`."""
    ranks: int | None
    """That saved the newest checkpoint: as many go on bit for bit."""
    job: str | None
    """SLURM's, of the last attempt."""


def trainings(run: Path, judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """The stages whose training was begun, in their order; ``judged``: all attempts of the run."""
    return [asdict(status) for stage in TRAINING_STAGES if (status := _training(run, stage, judged))]


def _training(run: Path, stage: str, judged: Sequence[Judged]) -> TrainingStatus | None:
    own = [each for each in judged if each.attempt.step is None and each.attempt.work.startswith(f"{stage}-")]
    latest = max(
        own, key=lambda each: (each.ending.cause == "running", each.attempt.began, each.attempt.saved), default=None
    )
    lines = _last_metrics(run / "train" / stage / "metrics.jsonl")
    record = _read_json(run / "models" / stage / RECORD)
    if latest is None and not lines and record is None:
        return None
    cause = latest.ending.cause if latest else None
    state = "finished" if record is not None else "running" if cause == "running" else "stopped"
    last: dict[str, Any] = lines[-1] if lines else {}
    step = int((record or last).get("steps" if record else "step", 0))
    steps = step if record else last.get("total_steps")
    pace = [line["seconds"] for line in lines[-_PACE:]]
    left = (steps - step) * sum(pace) / len(pace) if state == "running" and steps and pace else None
    checkpoint, ranks = _newest_checkpoint(run / "checkpoints" / stage)
    return TrainingStatus(
        stage,
        state,
        step,
        steps,
        last.get("loss"),
        checkpoint,
        None if left is None else round(left, 1),
        latest.attempt.end if latest else None,
        cause,
        ranks,
        latest.attempt.job if latest else None,
    )


def _last_metrics(path: Path) -> list[dict[str, Any]]:
    """The last lines, without a torn one."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - _TAIL))
            texts = file.read().split(b"\n")
    except OSError:
        return []
    lines = [line for text in texts if (line := _parsed(text)) is not None]
    return [line for line in lines if "step" in line and "seconds" in line]


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return None


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _newest_checkpoint(folder: Path) -> tuple[int | None, int | None]:
    """Its step, and the ranks that saved it."""
    markers = folder.glob(f"step-*/{MARKER}")
    steps = {int(found[1]): path for path in markers if (found := _CHECKPOINT.fullmatch(path.parent.name))}
    if not steps:
        return None, None
    return max(steps), (_read_json(steps[max(steps)]) or {}).get("ranks")


def training_lines(found: Sequence[dict[str, Any]], run: str) -> Iterator[str]:
    """What :func:`trainings` found, one line a stage, and how to go on with what is not finished."""
    for each in found:
        steps = "no step yet" if each["steps"] is None and not each["step"] else f"step {each['step']:,}"
        parts = [steps + (f" of {each['steps']:,}" if each["steps"] is not None else "")]
        parts += [f"loss {each['loss']:.4f}"] if each["loss"] is not None else []
        if each["state"] != "finished":
            checkpoint = each["checkpoint"]
            parts.append("no checkpoint yet" if checkpoint is None else f"checkpoint of step {checkpoint:,}")
        parts.append(_when(each))
        yield f"  training {each['stage']}: {', '.join(parts)}"
        if each["state"] == "stopped":
            what = "once that is mended" if each["cause"] == "configuration" else "go on with"
            yield f"    {what}: {_command(each, run)}"


def _command(each: dict[str, Any], run: str) -> str:
    """What goes on with a training as it was begun: as a batch job, or by as many ranks."""
    if each["job"] is not None:
        return f"sbatch slurm/{each['stage']}.sh {run}"
    ranks = f" --ranks {each['ranks']}" if (each["ranks"] or 1) > 1 else ""
    return f"codeio train {run} --stage {each['stage']}{ranks}"


def _when(each: dict[str, Any]) -> str:
    if each["state"] == "running":
        return "running" if each["seconds_left"] is None else f"{clock(each['seconds_left'])} left"
    ended = f" {each['ended']}" if each["ended"] else ""
    return (
        f"finished{ended}" if each["state"] == "finished" else f"ended{ended}: {each['cause'] or 'nothing tells how'}"
    )
