"""Weights of a Llama, from Hugging Face's form into one rank's part of Megatron's, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

HEADS, ROWS, COLUMNS = 0, 1, 2
"""What the ranks of tensor parallelism divide: an axis of [groups of heads or joined weights, rows, columns]."""
_LAYER: dict[str, tuple[tuple[str, ...], int | None]] = {
    "input_layernorm": (("input_layernorm",), None),
    "self_attention.linear_qkv": (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), HEADS),
    "self_attention.linear_proj": (("self_attn.o_proj",), COLUMNS),
    "pre_mlp_layernorm": (("post_attention_layernorm",), None),
    "mlp.linear_fc1": (("mlp.gate_proj", "mlp.up_proj"), ROWS),
    "mlp.linear_fc2": (("mlp.down_proj",), COLUMNS),
}
_ENDS: dict[str, tuple[tuple[str, ...], int | None]] = {
    "embedding.word_embeddings": (("model.embed_tokens",), ROWS),
    "decoder.final_layernorm": (("model.norm",), None),
    "output_layer": (("lm_head",), ROWS),
}


def source_of(name: str, first_layer: int) -> tuple[list[str], int | None]:
    """The weights that Megatron's parameter is joined of, and the axis that is divided; None: every rank has it whole.

    ``first_layer``: the number of the layer that this rank of the pipeline calls 0.
    """
    name = name.removesuffix(".weight")
    if name in _ENDS:
        names, axis = _ENDS[name]
        return [f"{each}.weight" for each in names], axis
    number, leaf = name.removeprefix("decoder.layers.").split(".", 1)
    names, axis = _LAYER[leaf]
    return [f"model.layers.{int(number) + first_layer}.{each}.weight" for each in names], axis


def join(tensors: list[Any], axis: int | None, groups: int, ranks: int, rank: int) -> torch.Tensor:
    """One rank's part. Queries stand beside the keys and values of their group."""
    if axis is None:
        whole: torch.Tensor = tensors[0]
        return whole
    parts = [each.view(groups if axis == HEADS else 1, -1, each.shape[-1]) for each in tensors]
    return torch.cat(parts, 1 if axis == HEADS else 0).chunk(ranks, axis)[rank].flatten(0, 1)


def split(parts: list[Any], axis: int | None, groups: int, rows: list[int]) -> list[torch.Tensor]:
    """The inverse, of all ranks' parts. ``rows``: of each weight that was joined."""
    if axis is None:
        return [parts[0]]
    leading = groups // len(parts) if axis == HEADS else len(rows)
    whole = torch.cat([each.view(leading, -1, each.shape[-1]) for each in parts], axis)
    pieces = whole.split([each // groups for each in rows], 1) if axis == HEADS else whole.split(1, 0)
    return [each.flatten(0, 1) for each in pieces]


def whole_model(parts: Mapping[tuple[int, int], tuple[int, dict[str, Any]]], like: Any) -> dict[str, Any]:
    """Hugging Face's weights.

    Args:
        parts: first layer and weights, by rank of the pipeline and of tensor parallelism.
        like: a model of this shape.
    """
    shapes = {name: each.shape for name, each in like.state_dict().items()}
    weights: dict[str, Any] = {}
    for stage in sorted({stage for stage, _ in parts}):
        first_layer, names = parts[stage, 0]
        of_stage = [each for key, (_, each) in sorted(parts.items()) if key[0] == stage]
        for name in names:
            sources, axis = source_of(name, first_layer)
            rows = [shapes[source][0] for source in sources]
            pieces = split([each[name] for each in of_stage], axis, like.config.num_key_value_heads, rows)
            weights |= dict(zip(sources, pieces, strict=True))
    return weights
