"""What the page shows of a training: its curves, how well it did on what is never trained, where it went on."""

from __future__ import annotations

from typing import Any

from codeio_hpc.launch.attempts import read_attempts
from codeio_hpc.launch.run import Run
from codeio_hpc.report.curves import curve
from codeio_hpc.train.metrics import read_lines


def training(run: Run, stage: str) -> dict[str, Any] | None:
    """Of a stage's training {"charts", "spikes": the steps that stood out, "best", "last": lines of the validation or
    None, "resumed": see :func:`_resumed`}; None if it has not run."""
    folder = run.folder / "train" / stage
    lines, measured = read_lines(folder / "metrics.jsonl"), read_lines(folder / "validation.jsonl")
    if not lines:
        return None
    resumed = _resumed(run, stage)
    losses = {"training": lines, "validation": measured} if measured else {"training": lines}
    return {
        "charts": [curve(losses, "loss", resumed), curve({"training": lines}, "lr", resumed)],
        "spikes": [line["step"] for line in lines if line.get("spikes")],
        "best": min(measured, key=lambda line: line["loss"], default=None),
        "last": measured[-1] if measured else None,
        "resumed": resumed,
    }


def _resumed(run: Run, stage: str) -> list[int]:
    """The steps after which a training went on from a checkpoint, ascending. One that was begun afresh, or went on from
    an earlier checkpoint, has forgotten the later ones."""
    folder = run.folder / "train" / stage
    lost, saves = read_lines(folder / "lost.jsonl"), read_lines(folder / "saves.jsonl")
    moments = [each.moments for each in read_attempts(run.folder) if each.work.startswith(f"{stage}-")]
    starts = sorted((each["step"], each["loaded"]) for each in moments if {"step", "loaded"} <= each.keys())
    steps: list[int] = []
    before = 0.0
    for stepped, loaded in starts:
        in_vain = [line["step"] for line in lost if before < line["time"] <= stepped]
        saved = [line["step"] for line in saves if line["time"] <= loaded]
        step = min(in_vain) - 1 if in_vain else saved[-1] if saved else 0
        steps = [earlier for earlier in steps if earlier < step] + [step] * (step > 0)
        before = stepped
    return steps
