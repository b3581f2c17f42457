"""Packed sequences as the tensors a model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codeio_hpc.train.data import Array, Corpus

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MicroBatch:
    """Some rows of packed samples. Without an attention mask and a cache, transformers derives the block-diagonal mask
    from positions that restart."""

    input_ids: torch.Tensor
    """int64 [rows, longest row]"""
    position_ids: torch.Tensor
    """int64 [rows, longest row]: from 0 in each sample"""
    predicting: torch.Tensor
    """int64 [trained tokens]: where in the flattened rows the token before each trained one stands"""
    targets: torch.Tensor
    """int64 [trained tokens]: the trained tokens themselves"""
    borders: torch.Tensor
    """int32 [samples + 1]: where each sample begins in the flattened rows, and their end"""
    longest: int
    """Tokens of the longest sample"""


def collate(corpus: Corpus, sequences: Array, pad: int) -> MicroBatch:
    """The given sequences as one micro-batch; the padding at a row's end is a sample of its own, without loss.

    No sequences at all make a row of padding: every rank must take part in every micro-batch.
    """
    import torch

    lengths = [int(corpus.offsets[i + 1] - corpus.offsets[i]) for i in sequences]
    shape = (max(1, len(lengths)), max(lengths, default=2))
    ids, trained = np.full(shape, pad, np.int64), np.zeros(shape, bool)
    positions = np.tile(np.arange(shape[1]), (shape[0], 1))
    for row, (number, length) in enumerate(zip(sequences, lengths, strict=True)):
        span = slice(int(corpus.offsets[number]), int(corpus.offsets[number + 1]))
        ids[row, :length] = corpus.tokens[span]
        trained[row, :length] = corpus.targets[span]
        starts = corpus.starts[corpus.start_offsets[number] : corpus.start_offsets[number + 1]]
        for start in [*starts.tolist(), length]:
            positions[row, start:] = np.arange(shape[1] - start)
    at = np.flatnonzero(trained)  # never a row's first: nothing comes before it
    borders = borders_of(positions)
    return MicroBatch(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(positions),
        predicting=torch.from_numpy(at - 1),
        targets=torch.from_numpy(ids.ravel()[at]),
        borders=torch.from_numpy(borders),
        longest=int(np.diff(borders).max()),
    )


def borders_of(positions: Array) -> Array:
    """Where samples begin in flattened rows, by their positions [rows, length], and the end; int32."""
    begins: Array = np.flatnonzero(positions.ravel() == 0)
    return np.append(begins, positions.size).astype(np.int32)
