"""DeepSpeed for real: number formats, ZeRO stages, other numbers of ranks, hangs, broken numbers."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from codeio_hpc.config.recipe import load_recipe
from codeio_hpc.errors import UserError
from codeio_hpc.launch.notice import PASSING
from codeio_hpc.train.checkpoints.files import published
from codeio_hpc.train.data import Batches, open_corpus, split_validation
from codeio_hpc.train.schedule import learning_rate
from tests.train.tiny_run import make_run, metrics, start_each, train_each

STEPS = 10


def losses(run: Path) -> list[float]:
    return [float.fromhex(line["loss"]) for line in metrics(run)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32 with ZeRO-2 on two ranks."""
    run = make_run(tmp_path_factory.mktemp("undisturbed"), STEPS)
    train_each(run, 2)
    return run


HALF = "dtype: {cpu: float16}\nloss_scale: {initial_power: 26, window: 3}\nspike: {window: 1, factor: 1.01}"
"""The scale begins at 2^26 and is doubled every third step, so that it overflows at the start and again later. Every
gradient norm that is higher than the one before is a spike."""


@pytest.fixture(scope="module")
def undisturbed_half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in float16."""
    run = make_run(tmp_path_factory.mktemp("undisturbed-half"), STEPS, HALF)
    train_each(run, 2, program="half.py")
    return run


def stopped_and_resumed(folder: Path, settings: str, until: int, program: str | None) -> tuple[Path, int]:
    """A run that was told to stop after ``until`` steps and went on; and how many steps were done at the stop."""
    run = make_run(folder, STEPS, settings)
    processes = start_each(run, 2, program)
    wait_for_steps(run, until)
    processes[1].send_signal(signal.SIGUSR1)
    assert {process.wait(timeout=150) for process in processes} == {85}, (folder / "output.txt").read_text()
    stopped = len(metrics(run))
    assert f"from step {stopped}, 2 ranks" in train_each(run, 2, program)
    return run, stopped


def wait_for_steps(run: Path, count: int) -> None:
    end = time.monotonic() + 150
    while len(metrics(run)) < count:
        assert time.monotonic() < end, (run.parent / "output.txt").read_text()
        time.sleep(0.005)


def test_zero_3_gives_the_same_training_and_the_same_model(undisturbed: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    run = make_run(tmp_path, STEPS, "zero: 3")
    train_each(run, 2, "small_devices.py")  # which no rank ever has as a whole
    np.testing.assert_allclose(losses(run), losses(undisturbed), rtol=1e-5)
    one, other = (AutoModelForCausalLM.from_pretrained(each / "models/stage1") for each in (run, undisturbed))
    assert set(one.state_dict()) == set(other.state_dict())
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-3, atol=1e-4, msg=name)


def test_float16_repeats_steps_that_overflow_so_that_every_batch_is_trained_once(
    undisturbed: Path, undisturbed_half: Path
) -> None:
    run = undisturbed_half
    lines = metrics(run)
    stage = load_recipe(run.parent / "recipe.yaml").stage("stage1")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["lr"] for line in lines] == [learning_rate(stage, step, STEPS) for step in range(STEPS)]
    assert [line["samples"] for line in lines] == [line["samples"] for line in metrics(undisturbed)]
    np.testing.assert_allclose(losses(run), losses(undisturbed), rtol=5e-3)
    overflows = [line["overflows"] for line in lines]
    assert overflows[0] >= 2 and overflows[-1] > overflows[0] and overflows == sorted(overflows)
    assert lines[0]["loss_scale"] == 2.0 ** (26 - overflows[0])
    record = json.loads((run / "models/stage1/training.json").read_text())
    assert (record["steps"], record["overflows"]) == (STEPS, overflows[-1])


def test_float16_goes_on_bit_for_bit_with_its_loss_scale_and_its_count_of_overflows(
    undisturbed_half: Path, tmp_path: Path
) -> None:
    run, stopped = stopped_and_resumed(tmp_path, HALF, 4, "half.py")
    lines = metrics(run)
    at_the_stop, at_the_end = lines[stopped - 1], lines[-1]
    assert 0 < at_the_stop["overflows"] < at_the_end["overflows"], "steps are repeated before and after the stop"
    assert len({line["loss_scale"] for line in lines[stopped:]}) > 1, "and the scale moves"
    assert lines == metrics(undisturbed_half)
    assert any(line["spikes"] for line in lines[:stopped]) and any(line["spikes"] for line in lines[stopped:])
    for line in lines:
        told = f"stage1: step {line['step']}: the " in (run.parent / "output.txt").read_text()
        assert told == (line["spikes"] == 1), line
    assert not (run / "train/stage1/lost.jsonl").exists()
    weights = "models/stage1/model.safetensors"
    assert (run / weights).read_bytes() == (undisturbed_half / weights).read_bytes()


@pytest.mark.long
def test_bfloat16_goes_on_bit_for_bit(tmp_path: Path) -> None:
    undisturbed = make_run(tmp_path / "undisturbed", STEPS, "dtype: {cpu: bfloat16}")
    train_each(undisturbed, 2)
    run, _ = stopped_and_resumed(tmp_path / "stopped", "dtype: {cpu: bfloat16}", 4, None)
    assert metrics(run) == metrics(undisturbed)
    weights = "models/stage1/model.safetensors"
    assert (run / weights).read_bytes() == (undisturbed / weights).read_bytes()


def test_a_training_goes_on_at_other_numbers_of_ranks_with_the_same_batches(undisturbed: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, STEPS)
    for ranks, until in ((2, 2), (1, 5)):
        processes = start_each(run, ranks)
        wait_for_steps(run, until)
        for process in processes:
            process.send_signal(signal.SIGUSR1)
        assert {process.wait(timeout=150) for process in processes} == {85}, (tmp_path / "output.txt").read_text()
        assert until <= len(metrics(run)) < STEPS
        [*_, (_, complete)] = published(run / "checkpoints" / "stage1")
        assert (complete.ranks, complete.step) == (ranks, len(metrics(run)))
        assert complete.layout == f"DeepSpeed ZeRO-2 of {ranks} rank{'s' * (ranks > 1)}"
    assert "the checkpoint is of DeepSpeed ZeRO-2 of 1 rank: losses differ" in train_each(run, 2)
    for name in ("step", "lr", "samples", "tokens", "trained_tokens"):
        assert [line[name] for line in metrics(run)] == [line[name] for line in metrics(undisturbed)]
    np.testing.assert_allclose(losses(run), losses(undisturbed), rtol=1e-5)
    assert not list((run / "checkpoints/stage1").glob(".*")), "what the conversion left"


def test_a_checkpoint_of_another_layout_is_loaded_where_the_number_of_ranks_alone_differs() -> None:
    from codeio_hpc.train.engines.deepspeed import needs_conversion

    ours = "DeepSpeed ZeRO-2 of 4 ranks"
    assert not needs_conversion(ours, ours)
    assert needs_conversion("DeepSpeed ZeRO-2 of 1 rank", ours)
    for other in ("DeepSpeed ZeRO-3 of 4 ranks", "Megatron, 2 parts of each of 2 stages"):
        with pytest.raises(UserError, match=f"a checkpoint in the layout '{other}'"):
            needs_conversion(other, ours)


def test_validation_is_never_trained_and_its_best_checkpoint_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path, STEPS, stage=", validation_fraction: 0.25")
    output = train_each(run, 2)
    assert "4 of the sequences are never trained, but measured" in output
    [folder] = (run / "train/stage1").glob("data-*")
    corpus = open_corpus(folder)
    trained, kept = split_validation(len(corpus), 0.25, 3)
    batches = Batches(corpus.documents()[trained], 10, 3)
    samples = [int(corpus.documents()[trained[batches.batch(step)]].sum()) for step in range(STEPS)]
    assert samples == [line["samples"] for line in metrics(run)]
    measured = [json.loads(line) for line in (run / "train/stage1/validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in measured] == [4, 8, STEPS]
    assert all(0 < line["loss"] < np.log(1024) + 0.5 for line in measured)
    by_step = {complete.step: complete.validation_loss for _, complete in published(run / "checkpoints/stage1")}
    assert by_step[STEPS] == measured[-1]["loss"] and len(kept) == 4
    best = min(measured, key=lambda line: line["loss"])
    assert (
        f"validation loss: last {measured[-1]['loss']:.4f} at step {STEPS}, best {best['loss']:.4f} at step " in output
    )


def test_a_rank_that_hangs_is_named_and_all_end_to_be_started_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, 2000, "hang_minutes: 0.1")
    first, second = start_each(run, 2)
    try:
        wait_for_steps(run, 3)
        second.send_signal(signal.SIGSTOP)
        assert first.wait(timeout=120) == PASSING
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    output = (tmp_path / "output.txt").read_text()
    assert "no progress for 6 s: rank 1 (on " in output and "; the others wait for it at step " in output


def test_weights_that_are_no_numbers_stop_before_the_optimiser(undisturbed: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    for name in ("checkpoints", "train", "models/stage1"):
        shutil.rmtree(run / name)
    path = run / "models/untrained/model.safetensors"
    weights = load_file(path)
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    record = path.with_name("training.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"files": {}}))  # as of a model of others
    [process] = start_each(run, 1)
    assert process.wait(timeout=120) == 1
    output = (tmp_path / "output.txt").read_text()
    assert "Traceback" not in output and "nan" in output
    assert not published(run / "checkpoints/stage1")
