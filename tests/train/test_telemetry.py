"""Curves: what is written is what a reader of event files finds, also after an interruption."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.train import metrics as metrics_module
from codeio_hpc.train.metrics import Metrics
from codeio_hpc.train.telemetry import TensorBoard, WandB


def events(folder: Path) -> Iterator[Any]:
    """The records of all event files: length, its checksum, the event, its checksum (TensorFlow's TFRecord)."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


@pytest.fixture(autouse=True)
def every_step_is_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "CURVES_EVERY", 0.0)


def line(step: int) -> dict[str, Any]:
    return {"step": step, "loss": 4.0 / step, "lr": 1e-3, "grad_norm": 1.0, "tokens": 100, "seconds": 0.1}


def test_every_step_is_in_the_event_files(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0, 3, [TensorBoard(tmp_path, 0)])
    for step in (1, 2, 3):
        metrics.add(line(step))
    metrics.validated(3, 1.25)
    metrics.close()
    found = {(v.tag, e.step): v.simple_value for e in events(tmp_path) for v in e.summary.value}
    assert found[("train/loss", 2)] == 2.0 and found[("validation/loss", 3)] == 1.25
    assert {step for tag, step in found if tag == "train/grad_norm"} == {1, 2, 3}
    assert not [tag for tag, _ in found if "step" in tag]


def test_every_line_says_of_how_many_steps_it_is_one(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0, 3)
    metrics.add(line(1))
    metrics.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text(encoding="utf-8")) == line(1) | {"total_steps": 3}


def test_what_an_interrupted_attempt_did_beyond_its_checkpoint_is_not_shown(tmp_path: Path) -> None:
    for first, last in ((0, 5), (3, 6)):
        metrics = Metrics(tmp_path, first, 6, [TensorBoard(tmp_path, first)])
        for step in range(first + 1, last + 1):
            metrics.add(line(step))
        metrics.close()
    starts = [event.step for event in events(tmp_path) if event.session_log.status == 1]
    assert starts == [4], "readers drop what an earlier file has from this step on"
    steps = [json.loads(text)["step"] for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_weights_and_biases_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its service cannot be had here; that the real package takes these arguments was tried by hand, offline."""
    calls: list[Any] = []
    run = SimpleNamespace(log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("end"))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **options: calls.append(options) or run))
    telemetry = WandB(tmp_path, "project", "run-stage1", "abcdef" * 10, {"lr": 1.0})
    telemetry.add(3, {"train/loss": 2.0})
    telemetry.close()
    assert calls[0] == {
        "project": "project",
        "name": "run-stage1",
        "id": "abcdefabcdefabcd",
        "resume": "allow",
        "dir": str(tmp_path),
        "config": {"lr": 1.0},
    }
    assert calls[1:] == [(3, {"train/loss": 2.0}), "end"]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        WandB(tmp_path, "project", "n", "i", {})
