"""The planner's memory: tensor by tensor against transformers' modules, and as a whole against a real training."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from codeio_hpc.train import forward
from codeio_hpc.train.engines.zero import REDUCE_BUCKET
from codeio_hpc.train.planner import load as planned_load
from codeio_hpc.train.planner.activations import kept_by_layers, largest_layer
from codeio_hpc.train.planner.load import Load
from codeio_hpc.train.planner.memory import fullest, moments
from codeio_hpc.train.weights import parameters
from tests.train.test_weights import config_of, facts_of_recipe

ROOT = Path(__file__).parents[2]
LAYERS = 2
KINDS = [(name, "bfloat16") for name in ("llama-3.1-8b", "qwen2.5-coder-7b", "gemma-2-27b", "deepseek-coder-v2-lite")]
KINDS += [(name, "float32") for name, _ in KINDS[:3]]  # meta has no grouped matrix product of float32


def load_of_recipe(name: str, **changes: Any) -> Load:
    usual = Load(facts_of_recipe(name), 8, 1, 4096, "cuda", "bfloat16", 2, "sdpa", True, True)
    return replace(usual, **changes)


# -- activations, at the models' real widths, without memory for them --------------------------------------------------


class Living(TorchDispatchMode):
    """Counts the bytes of tensors that were made and are still alive."""

    def __init__(self, given: set[int]) -> None:
        super().__init__()
        self.now = self.most = 0
        self._given = given
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        self.most = max(self.most, self.now)
        return made

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._given or key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


def living_bytes(load: Load) -> tuple[int, int]:
    """What the layers keep after the forward pass, and the most that lives in the backward pass.

    On torch's device "meta", where tensors have sizes only. Gradients of weights go as soon as they are there, as they
    go into DeepSpeed's bucket.
    """
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, load.dtype)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            config_of(load.facts), dtype=dtype, attn_implementation=load.attention
        ).model
        states = torch.empty(load.rows, load.length, load.facts.hidden, dtype=dtype, requires_grad=True)
        mask = torch.empty(load.rows, 1, load.length, load.length, dtype=dtype)
        positions = torch.arange(load.length)[None]
    if load.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    for weight in model.parameters():
        weight.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))
    rotation = model.rotary_emb(states, positions)
    ours = (*model.parameters(), *model.buffers(), *(rotation if isinstance(rotation, tuple) else (rotation,)), mask)
    given = {tensor.untyped_storage()._cdata for tensor in ours}
    with Living(given) as living:
        output = states + 0.0
        for layer in model.layers:
            output = layer(output, attention_mask=mask, position_ids=positions, position_embeddings=rotation)
            output = output[0] if isinstance(output, tuple) else output
        kept = living.now
        output.sum().backward()
    return kept, living.most


@pytest.mark.parametrize(("name", "dtype"), KINDS)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("length", [512, 4096])
def test_activations_are_those_that_autograd_keeps(name: str, checkpointing: bool, dtype: str, length: int) -> None:
    """In short sequences the feed-forward layer is the fullest moment of the backward pass, in long ones attention."""
    facts = facts_of_recipe(name).model_copy(update={"layers": LAYERS, "vocabulary": 8})
    given = {"facts": facts, "length": length, "dtype": dtype, "attention": "eager", "checkpointing": checkpointing}
    load = load_of_recipe(name, **given)
    kept, most = living_bytes(load)
    state = load.tokens * facts.hidden * load.element
    mask = load.length**2 * load.element  # given to the layers here, so that it is not counted
    assert kept_by_layers(load) - mask + state == pytest.approx(kept, rel=0.02)  # and the output
    layer = largest_layer(load)
    passing = layer.peak if checkpointing else layer.peak - layer.kept
    assert kept_by_layers(load) - mask + passing == pytest.approx(most, rel=0.07)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_fused_attention_keeps_its_inputs_its_output_and_the_mask(dtype: str) -> None:
    from transformers import AutoModelForCausalLM

    facts = facts_of_recipe("llama-3.1-8b").model_copy(
        update={"layers": 2, "vocabulary": 8, "hidden": 64, "heads": 4, "kv_heads": 2, "intermediate": 96}
    )
    load = load_of_recipe("llama-3.1-8b", facts=facts, length=64, dtype=dtype, checkpointing=False, device="cpu")
    model: Any = AutoModelForCausalLM.from_config(config_of(facts), dtype=getattr(torch, dtype)).model.train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    positions = torch.arange(32).repeat(2)[None]  # two samples: there is a mask
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=torch.zeros(1, 64, dtype=torch.int64), position_ids=positions, use_cache=False)
    found = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)
    norm = 64 * 64 * (4 + load.element)  # the last one's input and normalised state; its output is the result
    assert found == pytest.approx(kept_by_layers(load) + norm, rel=0.02)


# -- model states ------------------------------------------------------------------------------------------------------


def part_bytes(load: Load, moment: str) -> dict[str, float]:
    [found] = [each for each in moments(load) if each.name == moment]
    return {part.name: part.bytes for part in found.parts}


def test_half_precision_states_are_deepspeeds_estimate_and_gradients_twice() -> None:
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    load = load_of_recipe("gemma-2-27b", ranks=16)
    count = parameters(load.facts)
    _, estimate = estimate_zero2_model_states_mem_needs(count, 8, 2, cpu_offload=False)
    parts = part_bytes(load, "update begins")
    whole_tensors = parts["gradients"] - 2 * count / 16
    assert sum(parts.values()) == pytest.approx(estimate + 2 * count / 16 + whole_tensors)
    assert estimate == pytest.approx(85.1e9, rel=0.001)
    assert parts["weights"] == 2 * count


def test_a_rank_keeps_whole_tensors_of_which_a_part_is_its_own() -> None:
    """Two ranks; the embedding is larger than half of all: the second rank gets its end, and keeps all of it."""
    facts = facts_of_recipe("tiny").model_copy(update={"vocabulary": 20_000, "layers": 1})
    load = load_of_recipe("tiny", facts=facts, ranks=2)
    assert part_bytes(load, "update begins")["gradients"] == 2 * parameters(facts)
    assert part_bytes(load, "update begins")["gradients, flat"] == parameters(facts)


def test_zero_3_divides_weights_and_keeps_some_gathered() -> None:
    load = load_of_recipe("llama-3.1-70b", zero=3, ranks=64)
    count = parameters(load.facts)
    parts = part_bytes(load, "backward pass")
    assert parts["weights"] == parts["gradients"] == 2 * count / 64
    assert parts["gathered weights"] == 2 * load.facts.vocabulary * load.facts.hidden > 2e9
    two = replace(load, zero=2)
    assert fullest(load).bytes < fullest(two).bytes


def test_more_ranks_longer_sequences_and_recomputation_change_what_they_should() -> None:
    load = load_of_recipe("qwen2.5-coder-7b", ranks=16)
    needed = fullest(load).bytes
    assert fullest(replace(load, ranks=32)).bytes < needed
    assert fullest(replace(load, length=8192)).bytes > needed
    assert fullest(replace(load, rows=4)).bytes > needed
    assert fullest(replace(load, checkpointing=False)).bytes > needed
    assert fullest(replace(load, attention="eager")).bytes > needed
    assert fullest(replace(load, accumulates=False)).bytes < needed


def test_a_gpu_reserves_the_whole_bucket_and_cpu_what_is_written() -> None:
    on_gpu = load_of_recipe("tiny")
    assert part_bytes(on_gpu, "reduction")["reduce bucket"] == 2 * REDUCE_BUCKET
    on_cpu = replace(on_gpu, device="cpu")
    assert part_bytes(on_cpu, "reduction")["reduce bucket"] == 2 * parameters(on_cpu.facts)


def test_the_planner_knows_how_many_logits_there_are_at_a_time() -> None:
    assert planned_load.LOSS_CHUNK == forward.CHUNK


def test_the_plan_of_a_real_training_on_two_ranks_is_right_within_a_tenth() -> None:
    """13 million parameters, float32, ZeRO-2: planned against what two processes have in memory at their fullest."""
    command = [sys.executable, str(ROOT / "tools" / "bench" / "training_memory.py"), "--size", "13m", "--json"]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert result["parameters"] == 12_930_432
    assert 0.9 < result["planned"] / result["measured"] < 1.1, result
