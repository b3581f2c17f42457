"""A second engine, of another kind than DeepSpeed, through the real training loop: megatron-core on CPUs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from codeio_hpc.train.checkpoints.files import published
from codeio_hpc.train.collate import collate
from codeio_hpc.train.data import open_corpus, order_of, write_corpus
from codeio_hpc.train.plan import make_plan
from codeio_hpc.train.schedule import learning_rate
from tests.train.tiny_run import MODEL, make_run, metrics, train_each

if sys.version_info >= (3, 14):
    pytest.importorskip("megatron.core", reason="megatron-core has no wheels for Python 3.14")

STEPS = 6
STAGE = ", validation_fraction: 0.25, clip: 0.2, weight_decay: 0.1"
DIVIDED = {
    "two replicas": {},
    "tensors": {"TENSOR_PARALLEL": "2"},
    "layers": {"PIPELINE_PARALLEL": "2"},
}


def plain_model(folder: Path) -> Path:
    """A Llama as Megatron can make one: groups of heads, no biases, a head of its own."""
    shutil.copytree(MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"attention_bias": False, "num_key_value_heads": 2, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@dataclass
class Bare:
    """What transformers and torch make of the same run, without an engine and with the whole batch at once."""

    losses: list[float]
    validation_loss: float
    model: Any


def bare_loop(run: Path) -> Bare:
    plan = make_plan(run, "stage1")
    corpus = open_corpus(write_corpus(run, "stage1", plan.data))
    order = order_of(corpus, plan.stage, plan.seed)
    model = AutoModelForCausalLM.from_pretrained(run / "models/untrained")
    optimiser = torch.optim.AdamW(
        model.parameters(), betas=plan.stage.betas, weight_decay=plan.stage.weight_decay, lr=plan.stage.lr
    )

    def loss_of(sequences: np.ndarray) -> torch.Tensor:
        micro = collate(corpus, sequences, 0)
        logits = model(input_ids=micro.input_ids, position_ids=micro.position_ids, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1)[micro.predicting], micro.targets)

    losses = []
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = learning_rate(plan.stage, step, STEPS)
        loss = loss_of(order.batch(step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.stage.clip)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        return Bare(losses, float(loss_of(order.validated)), model)


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Trained by Megatron on two ranks, which divide the work in one of these ways."""
    folder = tmp_path_factory.mktemp("megatron")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in DIVIDED[request.param].items():
            environment.setenv(name, value)
        run = make_run(folder, STEPS, stage=STAGE, model=plain_model(folder / "model"))
        train_each(run, 2, program="with_megatron.py")
        yield run


# replicas are what DeepSpeed's tests are of, and the engine's interface is tried harder by the other two
@pytest.mark.parametrize(
    "run", [pytest.param("two replicas", marks=pytest.mark.long), "tensors", "layers"], indirect=True
)
def test_megatron_trains_in_the_same_loop_to_the_same_model(run: Path) -> None:
    bare = bare_loop(run)
    np.testing.assert_allclose([float.fromhex(line["loss"]) for line in metrics(run)], bare.losses, rtol=1e-5)
    [*_, last] = (run / "train/stage1/validation.jsonl").read_text().splitlines()
    assert json.loads(last)["loss"] == pytest.approx(bare.validation_loss, rel=1e-5)
    exported = AutoModelForCausalLM.from_pretrained(run / "models/stage1").state_dict()
    assert set(exported) == set(bare.model.state_dict())
    for name, value in bare.model.state_dict().items():
        torch.testing.assert_close(exported[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("run", ["tensors"], indirect=True)
def test_megatron_goes_on_from_a_checkpoint_bit_for_bit(run: Path) -> None:
    weights = run / "models/stage1/model.safetensors"
    lines, content = metrics(run), weights.read_bytes()
    (_, fourth), (newest, _) = published(run / "checkpoints/stage1")
    ours = sorted(name for name in fourth.files if name.startswith("engine/"))
    assert ours == ["engine/stage-0-part-0.pt", "engine/stage-0-part-1.pt"]
    for folder in (newest, weights.parent):
        shutil.rmtree(folder)
    assert "from step 4" in train_each(run, 2, program="with_megatron.py")
    assert (metrics(run), weights.read_bytes()) == (lines, content)
