"""Steps that stand out: told once a row, counted, the end of the training if the recipe says so; the same on all ranks
and after every resume."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config.recipe import SpikeSettings
from codeio_hpc.errors import RunFailedError
from codeio_hpc.train.checkpoints.files import published
from codeio_hpc.train.metrics import Metrics
from codeio_hpc.train.plan import make_plan
from codeio_hpc.train.spikes import SpikeGuard, last_steps
from tests.train.tiny_run import LENGTH, MODEL, RECIPE, make_run, metrics, start_each, write_run

Judged = list[tuple[int, str | None]]


def judged(guard: SpikeGuard, losses: list[float], first: int = 1, norm: float = 1.0) -> Judged:
    """Of each step the number in its row of spikes, and what is told of it."""
    found = []
    for step, loss in enumerate(losses, start=first):
        told = guard.judge(step, {"loss": loss, "grad_norm": norm})
        found.append((guard.row, told))
    return found


def test_a_row_of_spikes_is_counted_told_once_and_never_usual() -> None:
    found = judged(SpikeGuard(SpikeSettings(window=2)), [1.0, 2.0, 5.0, 4.1, 4.0, 9.0])
    assert [row for row, _ in found] == [0, 0, 1, 2, 0, 1]
    assert [told for _, told in found if told] == [
        "step 3: the loss is 5, 2.5 times the highest of 2 steps before (2)",
        "step 6: the loss is 9, 2.2 times the highest of 2 steps before (4)",
    ]


def test_nothing_is_judged_before_a_whole_window_was_seen() -> None:
    assert judged(SpikeGuard(SpikeSettings(window=3)), [1.0, 9.0, 90.0]) == [(0, None)] * 3


def test_gradient_norms_are_judged_too() -> None:
    guard = SpikeGuard(SpikeSettings(window=1, factor=3))
    judged(guard, [1.0])
    [(_, told)] = judged(guard, [1.0], first=2, norm=30.0)
    assert told == "step 2: the gradient norm is 30, 30.0 times the highest of 1 steps before (1)"


def test_stop_is_at_the_last_one_that_patience_bears() -> None:
    guard = SpikeGuard(SpikeSettings(window=1, action="stop", patience=2))
    judged(guard, [1.0, 5.0, 1.0, 5.0])
    with pytest.raises(RunFailedError, match=r"step 5: the loss is 6, .*; 2 such steps in a row, and nothing is saved"):
        judged(guard, [6.0], first=5)


def test_a_guard_that_is_made_again_from_the_metrics_decides_as_if_nothing_had_happened(tmp_path: Path) -> None:
    chance, settings = random.Random(1), SpikeSettings(window=4, factor=1.2)
    losses = [chance.uniform(1, 3) ** 2 for _ in range(60)]
    whole = judged(SpikeGuard(settings), losses)
    assert len({row for row, _ in whole}) >= 3 and sum(row > 0 for row, _ in whole) >= 5
    lines: list[dict[str, Any]] = [
        {"step": step, "loss": loss, "grad_norm": 1.0, "spikes": row, "tokens": 1, "seconds": 1.0, "lr": 1.0}
        for step, (loss, (row, _)) in enumerate(zip(losses, whole, strict=True), start=1)
    ]
    for done in range(len(losses)):
        text = "".join(json.dumps(line) + "\n" for line in lines[: done + 3])
        (tmp_path / "metrics.jsonl").write_text(text + '{"step"', encoding="utf-8")
        Metrics(tmp_path, done, len(losses)).close()
        again = SpikeGuard(settings, last_steps(tmp_path, settings.window))
        assert judged(again, losses[done:], first=done + 1) == whole[done:], done


def test_metrics_of_before_there_were_spikes_are_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0, "grad_norm": 1.0}\n', encoding="utf-8")
    assert SpikeGuard(SpikeSettings(window=1), last_steps(tmp_path, 1)).judge(2, {"loss": 3.0, "grad_norm": 1.0})


def test_a_training_that_runs_away_is_stopped_by_all_ranks_before_anything_is_saved_of_it(tmp_path: Path) -> None:
    """A learning rate that is far too high makes the spikes."""
    guard = "spike: {window: 1, factor: 1.2, patience: 2, action: stop}"
    recipe = RECIPE.format(model=MODEL, length=LENGTH, settings=guard, steps=8, stage=", save_every: 1")
    run = write_run(tmp_path, recipe.replace("lr: 3.0e-3", "lr: 1.0"))
    assert {process.wait(timeout=150) for process in start_each(run, 2)} == {1}
    output = (tmp_path / "output.txt").read_text(encoding="utf-8")
    lines = metrics(run)
    assert [line["spikes"] for line in lines] == [0] * (len(lines) - 1) + [1]
    assert output.count(f"stage1: step {len(lines)}: the ") == 1, "the first of the row is told by one rank"
    assert output.count(f"codeio: step {len(lines) + 1}: the ") == 1 and "2 such steps in a row" in output
    assert "Traceback" not in output
    assert max(complete.step for _, complete in published(run / "checkpoints/stage1")) <= len(lines)


def test_what_is_told_is_no_part_of_what_a_training_is(tmp_path: Path) -> None:
    run = make_run(tmp_path, settings="spike: {action: stop}")
    identity = make_plan(run, "stage1").identity
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("action: stop", "action: warn"), encoding="utf-8")
    assert make_plan(run, "stage1").identity == identity, "or it could not go on from its checkpoint"
