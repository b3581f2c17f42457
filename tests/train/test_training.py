"""Real training on two ranks: falling loss, kills, notices, both stages."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.launch.attempts import read_attempts
from codeio_hpc.launch.notice import SIGNALS
from codeio_hpc.tables.files import sha256
from codeio_hpc.train.checkpoints import files as checkpoints
from codeio_hpc.train.collate import collate
from codeio_hpc.train.data import Batches, open_corpus, write_corpus
from codeio_hpc.train.lineage import batch_of
from codeio_hpc.train.plan import make_plan
from codeio_hpc.train.run import PASSING, train_stage
from codeio_hpc.train.world import free_port
from tests.train.tiny_run import make_run, metrics, start, start_each, train, train_each

STEPS = 24


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stage 1 was trained without interruption."""
    run = make_run(tmp_path_factory.mktemp("undisturbed"), STEPS)
    code, output = train(run)
    assert code == 0, output
    return run


def wait_for_steps(run: Path, count: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while len(metrics(run)) < count:
        assert process.poll() is None, (run.parent / "output.txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.005)


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def alive(pids: list[int]) -> Iterator[int]:
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
            yield pid


def test_the_loss_falls_and_the_model_is_published(undisturbed: Path) -> None:
    lines = metrics(undisturbed)
    losses = [float.fromhex(line["loss"]) for line in lines]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert losses[0] == pytest.approx(np.log(1024), rel=0.05)
    assert losses[-1] < 0.5 * losses[0]
    assert {line["lr"] for line in lines} == {3e-3}
    kept = sorted(path.name for path in (undisturbed / "checkpoints/stage1").iterdir())
    assert kept == ["step-000020", "step-000024"]
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert (undisturbed / "models/stage1" / name).is_file()
        assert (undisturbed / "models/untrained" / name).is_file()


def test_loss_and_gradient_are_the_token_mean_over_the_global_batch(undisturbed: Path) -> None:
    """Two ranks with unequal shares, against one forward and backward pass over the whole batch."""
    import torch
    from transformers import AutoModelForCausalLM

    plan = make_plan(undisturbed, "stage1")
    corpus = open_corpus(write_corpus(undisturbed, "stage1", plan.data))
    batch = Batches(corpus.documents(), plan.stage.batch_size, plan.seed).batch(0)
    model = AutoModelForCausalLM.from_pretrained(undisturbed / "models/untrained")
    micro = collate(corpus, batch, 0)
    logits = model(input_ids=micro.input_ids, position_ids=micro.position_ids, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1)[micro.predicting], micro.targets)
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    first = metrics(undisturbed)[0]
    assert float.fromhex(first["loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)
    assert first["grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    assert first["trained_tokens"] == len(micro.targets)


def test_what_is_told_of_a_step_is_what_was_trained_at_it(undisturbed: Path) -> None:
    names = ("step", "lr", "total_steps", "samples", "tokens")
    for line in metrics(undisturbed):
        told = batch_of(undisturbed, line["step"], None)
        assert {name: told[name] for name in names} == {name: line[name] for name in names}
        assert told["loss"].hex() == line["loss"]


def test_the_exported_model_is_the_trained_one(undisturbed: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(undisturbed / "models/stage1")
    assert model.config.use_cache
    saved = torch.load(
        undisturbed / "checkpoints/stage1/step-000024/engine/mp_rank_00_model_states.pt", weights_only=False
    )
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved["module"][f"model.{name}"]), name


def test_a_finished_training_ends_at_once_without_torch(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_stage(undisturbed, "stage1", 2, False) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("stage1 already finished: 24 steps")
    code = (
        f"import sys; from pathlib import Path; from codeio_hpc.train.run import train; "
        f"train(Path({str(undisturbed)!r}), 'stage1', 2, True); assert 'torch' not in sys.modules"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    told = json.loads(done.stdout)
    assert told["state"] == "already finished" and told["validation"] is None


def test_a_checkpoint_of_other_settings_is_refused(undisturbed: Path) -> None:
    plan = make_plan(undisturbed, "stage1")
    newest = checkpoints.published(plan.checkpoints)[-1]
    checkpoints.check_identity(*newest, plan.identity, plan.settings)
    recipe = undisturbed.parent / "recipe.yaml"
    before = recipe.read_text()
    changed = before.replace("lr: 3.0e-3", "lr: 2.0e-3", 1).replace(
        "sequence_length: 48", "sequence_length: 48\nzero: 3"
    )
    try:
        recipe.write_text(changed)
        said = r"other settings, data or .*: lr was 0\.003, is now 0\.002; zero was 2, is now 3\n"
        with pytest.raises(UserError, match=f"finished with {said}"):
            make_plan(undisturbed, "stage1")
        (undisturbed / "models/stage1").rename(undisturbed / "models/aside")
        other = make_plan(undisturbed, "stage1")
        with pytest.raises(UserError, match=f"a checkpoint of {said}"):
            checkpoints.check_identity(*newest, other.identity, other.settings)
    finally:
        recipe.write_text(before)
        (undisturbed / "models/aside").rename(undisturbed / "models/stage1")


def test_a_killed_training_goes_on_bit_for_bit_and_ignores_partial_checkpoints(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path, STEPS)
    process = start(run)
    wait_for_steps(run, 6, process)
    ranks = ranks_of(process)
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while list(alive(ranks)) and time.monotonic() < end:
        time.sleep(0.02)
    assert len(ranks) == 2
    assert not list(alive(ranks)), "ranks outlive the process that started them"
    folder = run / "checkpoints/stage1"
    newest, complete = checkpoints.published(folder)[-1]
    assert 4 <= complete.step < STEPS
    done = len(metrics(run))
    shutil.copytree(newest, folder / "step-000022")
    (folder / "step-000022" / checkpoints.MARKER).unlink()
    shutil.copytree(newest, folder / "step-000023")
    marker = folder / "step-000023" / checkpoints.MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"step": 23}))
    (folder / "step-000023/random-00001.pt").write_bytes(b"torn")
    shutil.copytree(newest, folder / ".step-000023.staging")
    code, output = train(run)
    assert code == 0, output
    assert f"from step {complete.step}" in output
    lost = [json.loads(line)["step"] for line in (run / "train/stage1/lost.jsonl").read_text().splitlines()]
    assert lost == list(range(complete.step + 1, done + 1))
    assert metrics(run) == metrics(undisturbed)
    weights = "models/stage1/model.safetensors"
    assert (run / weights).read_bytes() == (undisturbed / weights).read_bytes()


def test_saves_by_the_clock_change_no_bit(undisturbed: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, STEPS, stage=", save_minutes: 0.0005, save_every: 1000, keep_every: 5")
    code, output = train(run)
    assert code == 0, output
    saved = [json.loads(line)["step"] for line in (run / "train/stage1/saves.jsonl").read_text().splitlines()]
    assert len(saved) >= 3 and saved[-1] == STEPS
    kept = {complete.step for _, complete in checkpoints.published(run / "checkpoints/stage1")}
    assert kept >= set(range(5, STEPS, 5)), "whatever the clock says"
    assert metrics(run) == metrics(undisturbed)
    weights = "models/stage1/model.safetensors"
    assert (run / weights).read_bytes() == (undisturbed / weights).read_bytes()


def test_a_notice_ends_in_a_checkpoint_and_exit_code_85(undisturbed: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, STEPS)
    process = start(run)
    wait_for_steps(run, 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 85
    done = len(metrics(run))
    assert 2 <= done < STEPS
    assert [complete.step for _, complete in checkpoints.published(run / "checkpoints/stage1")][-1] == done
    assert not (run / "models/stage1").exists()
    output = (tmp_path / "output.txt").read_text()
    assert f"told to stop; checkpoint of step {done} is published; the same command goes on from there" in output
    [attempt] = read_attempts(run)
    assert sorted(attempt.moments, key=attempt.moments.__getitem__) == ["process", "met", "loaded", "step", "told"]
    last = json.loads((run / "train/stage1/saves.jsonl").read_text().splitlines()[-1])
    assert last["step"] == done and last["time"] > attempt.moments["told"]
    assert 0 < last["seconds"] <= last["published"] < 30
    assert metrics(run) == metrics(undisturbed)[:done]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_notice_while_libraries_load_is_acknowledged_and_ends_without_a_step(tmp_path: Path, ranks: int) -> None:
    run = make_run(tmp_path, STEPS)
    process = start(run, ranks=ranks)
    end = time.monotonic() + 60
    while "loading libraries" not in (tmp_path / "output.txt").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 85
    output = (tmp_path / "output.txt").read_text()
    assert output.count(": ends in order") == 1 and "Traceback" not in output, output
    assert "told to stop before" in output
    assert not metrics(run) and not list((run / "checkpoints").rglob("*")), (
        "nothing was done that is worth a checkpoint"
    )


def test_a_rank_that_loses_the_others_ends_with_the_code_for_start_me_again(tmp_path: Path) -> None:
    """As on a cluster, where a node dies and the ranks have no parent in common."""
    run = make_run(tmp_path, 2000)
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    first, second = (start(run, ranks=None, **meeting, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1"))
    try:
        wait_for_steps(run, 9, first)  # the save of step 8 begins when that of step 4 is published
        second.kill()
        assert first.wait(timeout=60) == PASSING, (tmp_path / "output.txt").read_text()
    finally:
        first.kill()
        second.kill()
        first.wait()
        second.wait()
    output = (tmp_path / "output.txt").read_text()
    assert "rank 0 lost the others" in output and "gloo/" not in output and "GLHF" not in output
    assert "Traceback" not in output
    assert checkpoints.published(run / "checkpoints/stage1")


def test_telemetry_that_rank_0_cannot_open_is_a_wrong_setting_to_all_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "wandb.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lacking"), prepend=os.pathsep)
    run = make_run(tmp_path, STEPS, "telemetry: {wandb: project}")
    assert [process.wait(timeout=150) for process in start_each(run, 2)] == [64, 64]
    output = (tmp_path / "output.txt").read_text()
    assert output.count("the package wandb is not installed") == 1 and "lost the others" not in output


def test_stage_2_before_stage_1_is_a_user_error_with_the_command(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(UserError, match=f"codeio train {run} --stage stage1"):
        train_stage(run, "stage2", 2, False)
    assert train(run, "stage2")[0] == 64


def test_stage_2_starts_from_stage_1_with_a_fresh_optimiser(undisturbed: Path) -> None:
    code, output = train(undisturbed, "stage2", ranks=1)
    assert code == 0, output
    assert "stage2: 6 steps, from models/stage1, with a fresh optimiser, 1 rank\n" in output
    rates = [line["lr"] for line in metrics(undisturbed, "stage2")]
    assert rates[0] == 1e-3
    assert rates == sorted(rates, reverse=True)
    first = float.fromhex(metrics(undisturbed, "stage2")[0]["loss"])
    assert first < 0.7 * float.fromhex(metrics(undisturbed)[0]["loss"])


def test_without_samples_for_stage_1_stage_2_starts_from_the_recipe_s_model(tmp_path: Path) -> None:
    run = make_run(tmp_path, stages=["stage2"])
    code, output = train(run, "stage2", ranks=1)
    assert code == 0, output
    assert "stage2: 6 steps, from models/untrained, with a fresh optimiser, 1 rank\n" in output
    assert float.fromhex(metrics(run, "stage2")[0]["loss"]) == pytest.approx(np.log(1024), rel=0.05)
    assert train(run, "stage1", ranks=1)[0] == 64


def test_stage_2_starts_from_the_stage_1_of_another_run(undisturbed: Path, tmp_path: Path) -> None:
    model = undisturbed / "models/stage1"
    run = make_run(tmp_path, stages=["stage2"], stage2_from=str(model))
    code, output = train(run, "stage2", ranks=1)
    assert code == 0, output
    assert f"stage2: 6 steps, from {model}, with a fresh optimiser, 1 rank\n" in output
    first = float.fromhex(metrics(run, "stage2")[0]["loss"])
    assert first < 0.7 * float.fromhex(metrics(undisturbed)[0]["loss"])
    record, start = (json.loads((each / "training.json").read_text()) for each in (run / "models/stage2", model))
    assert (record["start"], record["start_folder"]) == (start["identity"], str(model))
    assert make_plan(make_run(tmp_path / "other", stages=["stage2"]), "stage2").identity != record["identity"]


def test_a_model_that_stage_2_cannot_start_from_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    run = make_run(tmp_path, stage2_from=str(model))
    with pytest.raises(UserError, match=f"{model}: no finished model\n.*\n.*correct stage2_from"):
        make_plan(run, "stage2")
    shutil.copytree(undisturbed / "models/stage1", model)
    make_plan(run, "stage2")
    record = json.loads((model / "training.json").read_text())
    (model / "training.json").write_text(json.dumps(record | {"tokenizer": "another"}))
    with pytest.raises(UserError, match="another tokenizer or chat template"):
        make_plan(run, "stage2")
    (model / "training.json").write_text(json.dumps(record))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 32}))
    with pytest.raises(UserError, match=str(model / "config.json")):
        make_plan(run, "stage2")


def test_threads_that_wait_leave_the_core_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(
        "codeio_hpc.train.loop.train_rank", lambda *given: int(os.environ["OMP_WAIT_POLICY"] != "PASSIVE")
    )
    monkeypatch.setattr("codeio_hpc.train.run.read_record", lambda folder: {"steps": 0})
    notice = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        assert train_stage(make_run(tmp_path), "stage1", 1, False) == 0
    finally:
        for number, handler in notice.items():
            signal.signal(number, handler)


def test_rft_starts_from_the_recipe_s_model_and_needs_no_stage_1(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    code, output = train(run, "rft", ranks=1)
    assert code == 0, output
    assert "rft: 2 steps, from models/untrained, with a fresh optimiser, 1 rank" in output
    assert len(metrics(run, "rft")) == 2
    assert (run / "models/rft/model.safetensors").exists() and not (run / "models/stage1").exists()


@pytest.mark.long
def test_fifty_kills_during_saves_lose_no_published_checkpoint_and_change_no_bit(tmp_path: Path) -> None:
    """A checkpoint after every step, so that most kills meet a save; all ranks die at once, as when power fails."""
    chance, steps = random.Random(6), 1200
    every_step = ", save_every: 1"
    recipe: dict[str, Any] = {"steps": steps, "stage": every_step}
    undisturbed = make_run(tmp_path / "undisturbed", **recipe)
    train_each(undisturbed, 2, timeout=900)
    run = make_run(tmp_path / "killed", **recipe)
    folder = run / "checkpoints/stage1"
    newest = kills = staged = 0
    while kills < 50:
        before = metrics(run)[-1]["step"] if newest else 0
        ranks = start_each(run, 2)
        wait_for_step_after(run, before, ranks)
        time.sleep(chance.random() * 0.6)
        for process in ranks:
            process.kill()
        for process in ranks:
            process.wait()
        kills += 1
        staged += any(path.name.startswith(".") for path in folder.iterdir())
        [*_, (path, complete)] = checkpoints.published(folder)
        assert complete.step >= newest, "a published checkpoint was lost"
        for name, facts in complete.files.items():
            assert sha256(path / name) == facts["sha256"], f"{path} is not whole"
        newest = complete.step
    print(f"{kills} kills, {staged} of them left a save behind, at step {newest} of {steps}")
    assert staged >= 10 and newest < steps
    train_each(run, 2, timeout=900)
    assert metrics(run) == metrics(undisturbed)
    weights = "models/stage1/model.safetensors"
    assert (run / weights).read_bytes() == (undisturbed / weights).read_bytes()


def wait_for_step_after(run: Path, step: int, ranks: list[subprocess.Popen[str]]) -> None:
    end = time.monotonic() + 200
    while not (lines := metrics(run)) or lines[-1]["step"] <= step:
        assert time.monotonic() < end and all(process.poll() is None for process in ranks), (
            run.parent / "output.txt"
        ).read_text()
        time.sleep(0.01)
