"""Weights are read whole or refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from codeio_hpc.errors import UserError
from codeio_hpc.evaluate.generate import generate
from codeio_hpc.tables.files import facts_of
from codeio_hpc.train.models import quieten
from codeio_hpc.train.reading import check_files, read_weights
from tests.train.architectures import ARCHITECTURES, tiny_model
from tests.train.tiny_run import make_run, start_each, train

Tensors = dict[str, Any]


@pytest.fixture(params=sorted(ARCHITECTURES))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    quieten()
    tiny_model(request.param).save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def without(tensors: Tensors, name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key != name}


def test_a_whole_model_is_read_with_tied_weights_stored_once_or_twice(folder: Path) -> None:
    before = read_weights(folder).state_dict()
    rewrite(folder, lambda each: {**each, "lm_head.weight": before["lm_head.weight"].clone()})
    after = read_weights(folder).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_tensor_that_is_missing_is_named_not_drawn_at_random(folder: Path) -> None:
    name = "model.layers.1.self_attn.o_proj.weight"
    rewrite(folder, lambda each: without(each, name))
    with pytest.raises(UserError, match=f"the weights' file lacks {name}\n"):
        read_weights(folder)


def test_a_tensor_of_another_size_or_of_another_model_is_named(folder: Path) -> None:
    name = "model.layers.1.self_attn.o_proj.weight"
    rewrite(folder, lambda each: {**each, "model.more.weight": torch.zeros(2)})
    with pytest.raises(UserError, match=r"has, beyond the model, model\.more\.weight\n"):
        read_weights(folder)
    rewrite(folder, lambda each: {**without(each, "model.more.weight"), name: torch.zeros(3, 5)})
    with pytest.raises(UserError, match=f"has other sizes: {name} of 3 x 5 instead of 32 x 32\n"):
        read_weights(folder)


def test_one_expert_that_is_missing_is_noticed(tmp_path: Path) -> None:
    quieten()
    tiny_model("deepseek_v2").save_pretrained(tmp_path)
    rewrite(tmp_path, lambda each: without(each, "model.layers.1.mlp.experts.1.down_proj.weight"))
    with pytest.raises(UserError, match=r"experts\.down_proj of 3 x 32 x 16 instead of 4 x 32 x 16"):
        read_weights(tmp_path)


@pytest.mark.parametrize("left", [0, 5, 5000, None])
def test_weights_that_are_cut_or_gone_are_a_user_error(tmp_path: Path, left: int | None) -> None:
    quieten()
    tiny_model("llama").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left]) if left is not None else file.unlink()
    with pytest.raises(UserError, match="its weights cannot be read"):
        read_weights(tmp_path)


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_a_failing_disk_and_full_memory_are_not_taken_for_damaged_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        if kind == "disk":
            raise OSError(errno.EIO, os.strerror(errno.EIO), "model.safetensors")
        torch.empty(2**60)

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises((OSError, RuntimeError), match=r"Input/output error|can't allocate memory"):
        read_weights(tmp_path)


def test_a_published_model_is_compared_with_what_was_published(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    check_files(tmp_path)  # of others
    (tmp_path / "training.json").write_text(
        json.dumps({"files": {"a.safetensors": facts_of(tmp_path / "a.safetensors")}})
    )
    check_files(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"weighty")
    with pytest.raises(UserError, match=r"a\.safetensors: missing, cut or changed"):
        generate(tmp_path, ["?"], 1)
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(UserError, match=r"a\.safetensors: missing, cut or changed"):
        check_files(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("trained"), 2)
    code, output = train(run, ranks=1)
    assert code == 0, output
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of its own of that run; its recipe is beside it."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def is_said_once(output: str, what: str) -> bool:
    noise = ("Traceback", "frame #", "ended with code", "was ended by", "terminate called", "goes on")
    return output.count(what) == 1 and not any(word in output for word in noise)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_stage_2_of_a_damaged_stage_1_is_refused_once_by_all_ranks(run: Path) -> None:
    cut(run / "models/stage1/model.safetensors")
    code, output = train(run, "stage2", ranks=2)
    assert code == 64, output
    assert is_said_once(output, "model.safetensors: missing, cut or changed"), output


def test_where_all_checkpoints_are_damaged_that_is_said_once_and_nothing_starts_it_again(run: Path) -> None:
    for marker in (run / "checkpoints/stage1").glob("*/COMPLETE.json"):
        marker.unlink()
    shutil.rmtree(run / "models/stage1")
    code, output = train(run, ranks=2)
    assert code == 64, output
    assert is_said_once(output, "no checkpoint is whole any more"), output


def test_all_ranks_hear_that_a_base_model_is_cut_which_only_rank_0_reads(run: Path) -> None:
    cut(run / "models/untrained/model.safetensors")
    record = run / "models/untrained/training.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "files": {}}))  # as of a model of others
    for folder in ("models/stage1", "checkpoints/stage1"):
        shutil.rmtree(run / folder)
    assert [process.wait(timeout=150) for process in start_each(run, 2)] == [64, 64]
    output = (run.parent / "output.txt").read_text()
    assert is_said_once(output, "its weights cannot be read"), output
