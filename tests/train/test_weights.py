"""Weights counted from facts alone are those of transformers' modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config.facts import facts_of
from codeio_hpc.config.recipe import ModelFacts, load_recipe
from codeio_hpc.errors import UserError
from codeio_hpc.train.flops import flops_per_token, peak_flops
from codeio_hpc.train.weights import active_parameters, head_dim, parameters, weights

RECIPES = Path(__file__).parents[2] / "configs" / "models"
PUBLISHED = {
    "qwen2.5-coder-7b": 7_615_616_512,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.0-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.0-70b": 70_553_706_496,
    "deepseek-coder-v2-lite": 15_706_484_224,
    "gemma-2-27b": 27_227_128_320,
}
"""Elements in the published weights."""
TINY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 120, "num_attention_heads": 4}
EXPERTS = {"n_routed_experts": 6, "num_experts_per_tok": 2, "n_shared_experts": 2, "moe_intermediate_size": 40}
LATENT = {"kv_lora_rank": 24, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10}


def facts_of_recipe(name: str) -> ModelFacts:
    facts = load_recipe(RECIPES / f"{name}.yaml").facts
    assert facts is not None
    return facts


def config_of(facts: ModelFacts) -> Any:
    """The transformers configuration of a recipe's facts."""
    from transformers import AutoConfig

    kind = {"Qwen2": "qwen2", "Llama": "llama", "Gemma2": "gemma2", "DeepseekV2": "deepseek_v2"}
    further: dict[str, Any] = {"head_dim": facts.head_dim} if facts.head_dim else {}
    if facts.latent and facts.experts:
        further |= {
            "kv_lora_rank": facts.latent.kv_rank,
            "q_lora_rank": facts.latent.query_rank,
            "qk_nope_head_dim": facts.latent.nope_dim,
            "qk_rope_head_dim": facts.latent.rope_dim,
            "v_head_dim": facts.latent.value_dim,
            "n_routed_experts": facts.experts.count,
            "num_experts_per_tok": facts.experts.active,
            "n_shared_experts": facts.experts.shared,
            "moe_intermediate_size": facts.experts.intermediate,
            "first_k_dense_replace": facts.experts.dense_layers,
        }
    if facts.attention_bias:
        further["attention_bias"] = True
    return AutoConfig.for_model(
        kind[facts.architecture.removesuffix("ForCausalLM")],
        hidden_size=facts.hidden,
        intermediate_size=facts.intermediate,
        num_hidden_layers=facts.layers,
        num_attention_heads=facts.heads,
        num_key_value_heads=facts.kv_heads,
        vocab_size=facts.vocabulary,
        max_position_embeddings=facts.context,
        tie_word_embeddings=facts.tied,
        architectures=[facts.architecture],
        **further,
    )


def named_sizes(config: Any) -> list[tuple[str, int]]:
    """Of the model that transformers builds, without memory for it."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return [(name, tensor.numel()) for name, tensor in model.named_parameters()]


@pytest.mark.parametrize("name", [*PUBLISHED, "tiny"])
def test_the_recipes_models_have_the_weights_that_transformers_gives_them(name: str) -> None:
    facts = facts_of_recipe(name)
    assert [(weight.name, weight.size) for weight in weights(facts)] == named_sizes(config_of(facts))
    assert parameters(facts) == PUBLISHED.get(name, 320_736)


@pytest.mark.parametrize("name", [*PUBLISHED, "tiny"])
def test_the_facts_of_a_config_file_are_those_of_the_recipe(name: str) -> None:
    facts = facts_of_recipe(name)
    found = facts_of(config_of(facts).to_dict(), name)
    assert head_dim(found) == head_dim(facts)
    assert found.model_copy(update={"head_dim": facts.head_dim}) == facts


@pytest.mark.parametrize(
    ("kind", "further"),
    [
        ("llama", {"num_key_value_heads": 2}),
        ("llama", {"tie_word_embeddings": True, "attention_bias": True}),
        ("qwen2", {"num_key_value_heads": 1}),
        ("gemma2", {"num_key_value_heads": 2, "head_dim": 20}),
        ("deepseek_v2", {**LATENT, **EXPERTS, "q_lora_rank": None, "first_k_dense_replace": 1}),
        ("deepseek_v2", {**LATENT, **EXPERTS, "q_lora_rank": 16, "attention_bias": True, "first_k_dense_replace": 0}),
    ],
)
def test_tiny_models_of_every_kind_are_counted_to_the_last_bias(kind: str, further: dict[str, Any]) -> None:
    from transformers import AutoConfig

    names = {"llama": "Llama", "qwen2": "Qwen2", "gemma2": "Gemma2", "deepseek_v2": "DeepseekV2"}
    config = AutoConfig.for_model(kind, **TINY, **further, architectures=[f"{names[kind]}ForCausalLM"])
    facts = facts_of(config.to_dict(), kind)
    assert [(weight.name, weight.size) for weight in weights(facts)] == named_sizes(config)


def test_a_token_meets_the_chosen_experts_only() -> None:
    facts = facts_of_recipe("deepseek-coder-v2-lite")
    assert facts.experts is not None
    unmet = (facts.experts.count - facts.experts.active) * 3 * facts.experts.intermediate * facts.hidden
    assert active_parameters(facts) == parameters(facts) - (facts.layers - 1) * unmet == 2_661_150_208
    dense = facts_of_recipe("llama-3.1-8b")
    assert active_parameters(dense) == parameters(dense)


def test_what_cannot_be_counted_is_said() -> None:
    facts = facts_of_recipe("llama-3.1-8b")
    with pytest.raises(UserError, match="MambaForCausalLM"):
        weights(facts.model_copy(update={"architecture": "MambaForCausalLM"}))
    with pytest.raises(UserError, match="without 'intermediate'"):
        weights(facts.model_copy(update={"intermediate": None}))
    with pytest.raises(UserError, match="without 'latent'"):
        weights(facts_of_recipe("deepseek-coder-v2-lite").model_copy(update={"latent": None}))


def test_work_is_counted_as_published_figures_count_it() -> None:
    """README of llm-foundry: MPT-7B (6.658 G parameters, tied), 4,096 tokens, 3,684 tokens/s on an A100: MFU 54.8 %."""
    llama = facts_of_recipe("llama-3.1-8b")
    embedding = llama.vocabulary * llama.hidden
    assert flops_per_token(llama, 0) == 6 * (parameters(llama) - embedding)
    assert flops_per_token(llama, 4096) - flops_per_token(llama, 0) == 12 * 32 * 4096 * 4096
    tied = llama.model_copy(update={"tied": True})
    assert flops_per_token(tied, 0) == flops_per_token(llama, 0)
    mpt = 6 * 6.658e9 + 12 * 32 * 4096 * 4096
    assert 3684 * mpt / (peak_flops("NVIDIA A100-SXM4-80GB") or 0) == pytest.approx(0.548, abs=0.001)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA GH200 480GB", 989.5),
        ("NVIDIA L40S", 362),
        ("Tesla V100-SXM2-32GB", 125),
    ],
)
def test_a_gpu_is_known_by_the_name_that_torch_gives(name: str, teraflops: float) -> None:
    assert peak_flops(name) == teraflops * 1e12


def test_an_unknown_gpu_has_no_peak() -> None:
    assert peak_flops("NVIDIA GeForce GTX 970") is None
