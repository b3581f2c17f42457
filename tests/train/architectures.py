"""Tiny random models of the four families that recipes are for."""

from __future__ import annotations

from typing import Any

from codeio_hpc.train.attention import register

COMMON = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 64, "num_key_value_heads": 2},
    "qwen2": {"intermediate_size": 64, "num_key_value_heads": 2},
    "gemma2": {
        "intermediate_size": 64,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 16,
        "pad_token_id": 0,
    },
    "deepseek_v2": {
        "intermediate_size": 64,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": None,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "topk_group": 1,
        "n_group": 1,
    },
}


def tiny_model(family: str, attention: str = "eager", seed: int = 0) -> Any:
    """In evaluation mode; large weights, so that a soft-cap and a wrong mask show."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    register()
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **COMMON, **ARCHITECTURES[family], initializer_range=0.3)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
