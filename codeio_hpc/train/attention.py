"""Attention that works on samples one by one, as transformers' attention ``varlen``. Loads torch.

SDPA with a block-diagonal mask computes a whole sequence's square and throws most of it away; FlashAttention's kernel
for sequences of different lengths, which torch brings (``torch.nn.attention.varlen``), computes the blocks alone, and
needs no further package. Samples cannot see each other: they are different sequences to the kernel.
"""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Any

import torch

NAME = "varlen"


def register() -> None:
    """Make it known to transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, varlen_attention)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)


def varlen_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: object,
    scaling: float | None = None,
    borders: torch.Tensor | None = None,
    longest: int = 0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sample.

    Args:
        module: not looked at.
        query: [rows, heads, length, width].
        key: [rows, key-value heads, length, width].
        value: [rows, key-value heads, length, width of values].
        attention_mask: not looked at: the borders say it all.
        scaling: of the scores; None: one by the root of the width.
        borders: int32 [samples + 1]: where each sample begins in the flattened rows, and their end.
        longest: tokens of the longest sample.
        sliding_window: how far back a token sees, itself included; None: to the sample's start.
        softcap: must be None: the kernel has none.

    Returns:
        [rows, length, heads, width of values], and no weights.

    Raises:
        ValueError: without borders, or with a soft-cap.
    """
    if borders is None or softcap is not None:
        raise ValueError(f"attention '{NAME}' needs borders and knows no soft-cap")
    rows, heads, length, width = query.shape
    q, k, v = (each.transpose(1, 2).flatten(0, 1) for each in (query, key, value))
    k, v = (each.repeat_interleave(heads // each.shape[1], dim=1) for each in (k, v))
    back = -1 if sliding_window is None else sliding_window - 1
    scale = width**-0.5 if scaling is None else scaling
    if query.is_cuda and query.dtype != torch.float32:
        result = _by_kernel(q, k, v, borders, longest, scale, back)
    else:
        result = _one_by_one(q, k, v, borders, scale, back)
    return result.view(rows, length, heads, -1), None


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    scale: float,
    back: int,
) -> torch.Tensor:
    """[tokens, heads, width] each; the kernel wants values as wide as keys (DeepSeek-V2's are narrower)."""
    from torch.nn.attention.varlen import varlen_attn

    narrower = query.shape[-1] - value.shape[-1]
    if narrower:
        value = torch.nn.functional.pad(value, (0, narrower))
    causal: dict[str, Any] = {"window_size": (back, 0)}
    if "window_size" not in inspect.signature(varlen_attn).parameters:  # torch 2.10
        causal = {"is_causal": True}
    result = varlen_attn(query, key, value, borders, borders, longest, longest, scale=scale, **causal)
    assert isinstance(result, torch.Tensor)
    return result[..., : result.shape[-1] - narrower].contiguous() if narrower else result


def _one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, borders: torch.Tensor, scale: float, back: int
) -> torch.Tensor:
    """The same without the kernel, which calculates on GPUs and in half precision only."""
    parts = []
    ends = borders.tolist()
    for begin, end in pairwise(ends):
        q, k, v = (each[begin:end].transpose(0, 1) for each in (query, key, value))
        mask = None
        if 0 <= back < end - begin:
            places = torch.arange(end - begin, device=query.device)
            ago = places[:, None] - places
            mask = (ago >= 0) & (ago <= back)
        part = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=scale)
        parts.append(part.transpose(0, 1))
    return torch.cat(parts)
