"""The notice planner: does stopping in order fit the warning that a site gives, and how often to save otherwise."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from codeio_hpc.config.recipe import TRAINING_STAGES, StageRecipe
from codeio_hpc.config.site import Preemption
from codeio_hpc.launch.doctor.finding import Finding
from codeio_hpc.launch.notice import WARNING_SECONDS

MICRO_BATCHES_TO_STOP = 2
"""Ranks agree on a stop behind every micro-batch. A notice that just misses that of a step's last one waits for the
update and for the next micro-batch. Updates are not measured by themselves: one is counted as another micro-batch."""
BETWEEN_PREEMPTIONS = 4.0
"""Hours, on average. An assumption, printed with what follows from it; sites do not publish it."""

_LAST = 200
"""Steps and saves that are measured: the newest. The first ones of an attempt compile and warm up."""


@dataclass(frozen=True)
class TrainingTimes:
    """What one stage of training took, as it was measured."""

    stage: str
    step_seconds: float
    micro_seconds: float
    """Of a micro-batch: a step's time, updates included, by the micro-batches of a rank."""
    save_seconds: float | None
    """For which training waits while its state is copied."""
    publish_seconds: float | None
    """Until the copy is a checkpoint: what a stop has to wait for."""
    recipe: StageRecipe | None
    """What it says of checkpoints; None: it is not there any more."""


def training_times(run: Path, recipes: Mapping[str, StageRecipe]) -> list[TrainingTimes]:
    """The medians of a run's training metrics; empty if nothing has been trained there."""
    found = []
    for stage in TRAINING_STAGES:
        folder = run / "train" / stage
        steps = _newest(folder / "metrics.jsonl", "seconds", "micro_batches")
        saves = _newest(folder / "saves.jsonl", "seconds", "published")
        if steps:
            found.append(
                TrainingTimes(
                    stage,
                    step_seconds=median(seconds for seconds, _ in steps),
                    micro_seconds=median(seconds / count for seconds, count in steps),
                    save_seconds=median(seconds for seconds, _ in saves) if saves else None,
                    publish_seconds=median(published for _, published in saves) if saves else None,
                    recipe=recipes.get(stage),
                )
            )
    return found


def _newest(path: Path, *names: str) -> list[tuple[float, ...]]:
    """Those values of the newest lines."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[-_LAST:]
    except OSError:
        return []
    values = []
    for line in lines:
        try:
            facts = json.loads(line)
            values.append(tuple(float(facts[name]) for name in names))
        except (ValueError, KeyError, TypeError):  # torn by a kill
            continue
    return values


def notice_seconds(preemption: Preemption, kill_wait: int) -> int:
    """From the first signal to SIGKILL. Without a grace time SIGTERM comes at once, and is heeded like any other."""
    return preemption.grace_seconds + kill_wait


def interval_seconds(save_seconds: float, hours_between: float = BETWEEN_PREEMPTIONS) -> float:
    """Between checkpoints, so that saving and work lost together cost least: Young's first-order formula,
    sqrt(2 * save * mean time between failures). (J. W. Young, CACM 17(9), 1974; J. T. Daly, FGCS 22(3), 2006.)"""
    return math.sqrt(2 * save_seconds * hours_between * 3600)


def notice_findings(
    preemption: Preemption | None, kill_wait: int | None, stages: Sequence[TrainingTimes], why_none: str
) -> Iterator[Finding]:
    """One line on the notice, two on each stage that was measured. ``preemption`` is None where no site is known."""
    notice = None
    if preemption is None:
        yield Finding("notice", "no site file: nothing is known", "skipped", "codeio site init, on a login node")
    elif preemption.mode == "off":
        yield Finding("notice", f"training is not preempted; {WARNING_SECONDS} s before its time limit")
        notice = WARNING_SECONDS
    else:
        notice = notice_seconds(preemption, kill_wait or 0)
        waits = "KillWait not known" if kill_wait is None else f"KillWait {kill_wait} s"
        parts = f"GraceTime {preemption.grace_seconds} s, {waits}"
        yield Finding("notice", f"{notice} s at preemption, then SIGKILL ({parts})")
    if not stages:
        yield Finding("stops in time", why_none, "skipped", "codeio doctor --run DIR of a run that has trained")
        yield Finding("save every", why_none, "skipped")
    for stage in stages:
        yield from _stage_findings(stage, notice)


def _stage_findings(stage: TrainingTimes, notice: int | None) -> Iterator[Finding]:
    if stage.save_seconds is None or stage.publish_seconds is None:
        value = f"{stage.stage}: no checkpoint was measured yet (train/{stage.stage}/saves.jsonl)"
        yield Finding("stops in time", value, "skipped")
        yield Finding("save every", value, "skipped")
        return
    need = MICRO_BATCHES_TO_STOP * stage.micro_seconds + stage.publish_seconds
    took = f"{MICRO_BATCHES_TO_STOP} micro-batches of {stage.micro_seconds:.3g} s"
    took += f" and a save of {stage.publish_seconds:.3g} s"
    fits = notice is not None and need <= notice
    if notice is None:
        yield Finding("stops in time", f"{stage.stage}: {took} take {need:.3g} s", "skipped")
    elif fits:
        yield Finding("stops in time", f"{stage.stage}: {took} fit into {notice} s")
    else:
        fix = "a preempted training goes on from its last regular checkpoint: see 'save every'"
        yield Finding("stops in time", f"{stage.stage}: {took} do not fit into {notice} s", "warn", fix)
    yield _interval_finding(stage, stage.save_seconds, fits)


def _interval_finding(stage: TrainingTimes, save_seconds: float, fits: bool) -> Finding:
    def minutes(hours: float) -> float:
        return interval_seconds(save_seconds, hours) / 60

    best = minutes(BETWEEN_PREEMPTIONS)
    value = (
        f"{stage.stage}: {best:.3g} minutes, if one is stopped every {BETWEEN_PREEMPTIONS:g} h without a chance "
        f"to save (every hour: {minutes(1):.3g}, every day: {minutes(24):.3g})"
    )
    if stage.recipe is not None:
        value += f"; the recipe says {stage.recipe.saves_text.removeprefix('every ')}"
        given = stage.recipe.steps_between_saves(stage.step_seconds)
        if not fits and given > 1 and given * stage.step_seconds > 2 * 60 * best:
            return Finding("save every", value, "warn", f"stages.{stage.stage}.save_minutes: {best:.3g} in the recipe")
    return Finding("save every", value)
