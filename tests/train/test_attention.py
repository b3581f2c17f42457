"""Attention by samples, against a mask written out."""

from __future__ import annotations

import pytest
import torch

from codeio_hpc.train.attention import varlen_attention


def masked(q, k, v, borders, scale, window):
    """[rows, heads, length, width] each, all pairs of places looked at one by one."""
    rows, _, length, _ = q.shape
    sample = torch.bucketize(torch.arange(rows * length), borders, right=True).view(rows, 1, length)
    places = torch.arange(length)
    ago = places[:, None] - places
    seen = (sample[..., None] == sample[..., None, :]) & (ago >= 0)
    if window is not None:
        seen &= ago < window
    k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], 1) for each in (k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, seen, scale=scale).transpose(1, 2)


@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize(("heads", "groups", "width", "values"), [(4, 4, 8, 8), (4, 2, 8, 8), (2, 1, 12, 8)])
def test_each_sample_sees_itself_back_to_the_window(window, heads, groups, width, values) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, heads, 20, width), torch.randn(2, groups, 20, width), torch.randn(2, groups, 20, values)
    borders = torch.tensor([0, 7, 8, 20, 33, 40], dtype=torch.int32)
    ours, weights = varlen_attention(None, q, k, v, None, 0.3, borders, 13, sliding_window=window)
    assert weights is None and ours.shape == (2, 20, heads, values)
    torch.testing.assert_close(ours, masked(q, k, v, borders, 0.3, window))


def test_a_soft_cap_or_no_borders_are_refused_rather_than_ignored() -> None:
    one = torch.randn(1, 1, 4, 8)
    borders = torch.tensor([0, 4], dtype=torch.int32)
    for arguments in ({"softcap": 50.0, "borders": borders}, {}):
        with pytest.raises(ValueError, match="varlen"):
            varlen_attention(None, one, one, one, None, **arguments)
