"""Packed sequences as the tensors a model takes, and the proof that samples do not see each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from codeio_hpc.errors import RunFailedError
from codeio_hpc.train.data import Array, Corpus

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""Label of positions that the loss leaves out, as in torch's cross entropy."""


@dataclass(frozen=True)
class MicroBatch:
    """Tensors [rows, longest row]. Without an attention mask and a cache, transformers derives the block-diagonal mask
    from positions that restart."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor


def collate(corpus: Corpus, sequences: Array, pad: int) -> MicroBatch:
    """The given sequences as one micro-batch; the padding at a row's end is a document of its own, without loss.

    No sequences at all make a row of padding: every rank must take part in every micro-batch.
    """
    import torch

    lengths = [int(corpus.offsets[i + 1] - corpus.offsets[i]) for i in sequences]
    shape = (max(1, len(lengths)), max(lengths, default=2))
    ids, labels = np.full(shape, pad, np.int64), np.full(shape, IGNORED, np.int64)
    positions = np.tile(np.arange(shape[1]), (shape[0], 1))
    for row, (number, length) in enumerate(zip(sequences, lengths, strict=True)):
        span = slice(int(corpus.offsets[number]), int(corpus.offsets[number + 1]))
        ids[row, :length] = corpus.tokens[span]
        labels[row, :length] = np.where(corpus.targets[span], corpus.tokens[span], IGNORED)
        starts = corpus.starts[corpus.start_offsets[number] : corpus.start_offsets[number + 1]]
        for start in [*starts.tolist(), length]:
            positions[row, start:] = np.arange(shape[1] - start)
    return MicroBatch(torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(labels))


def predicting(labels: torch.Tensor) -> torch.Tensor:
    """Positions, ascending, whose next token is trained in some row of ``labels`` [rows, length]; at least one.

    Logits are needed there only: of stage 2's tokens one in fifteen is trained, and logits are the largest tensor.
    """
    import torch

    found = (labels[:, 1:] != IGNORED).any(0).nonzero().flatten()
    return found if len(found) else torch.zeros(1, dtype=torch.int64)


def forward(model: Any, batch: MicroBatch, device: Any, keep: torch.Tensor | None = None) -> torch.Tensor:
    """Logits [rows, length, vocabulary] of the one way in which models are called in training.

    With ``keep`` [positions], logits at those positions alone: [rows, positions, vocabulary].
    """
    some = {} if keep is None else {"logits_to_keep": keep.to(device)}
    output = model(
        input_ids=batch.input_ids.to(device),
        position_ids=batch.position_ids.to(device),
        attention_mask=None,
        use_cache=False,
        **some,
    )
    logits: torch.Tensor = output.logits
    return logits


def probe_isolation(model: Any, vocabulary: int, rows: int, device: Any) -> float:
    """Change one document and look at its neighbour in the same sequence; the largest change of its logits.

    Every fast path that ignores document borders does so in silence (a mask of ones, a cache, FlashAttention with
    more than one row), so the real path is tried before the first step.

    Raises:
        RunFailedError: the neighbour's logits changed, or the changed document's did not.
    """
    import torch

    length = 24
    numbers = np.random.RandomState(0).randint(0, vocabulary, (2, rows, 2 * length))
    first, second = (torch.from_numpy(ids.astype(np.int64)) for ids in numbers)
    second[:, length:] = first[:, length:]
    positions = torch.arange(length).repeat(2).expand(rows, -1)
    nothing = torch.full_like(first, IGNORED)
    training = model.training
    model.eval()
    with torch.no_grad():
        one, other = (forward(model, MicroBatch(ids, positions, nothing), device).float() for ids in (first, second))
        difference = (one - other).abs()
    model.train(training)
    changed, leaked = float(difference[:, :length].max()), float(difference[:, length:].max())
    tolerance = (1e-5 if next(model.parameters()).dtype == torch.float32 else 2e-2) * float(one.abs().max())
    if not changed > tolerance or not leaked <= tolerance:
        raise RunFailedError(
            f"isolation probe: changing one sample changed its own logits by {changed:.3g} and its neighbour's by "
            f"{leaked:.3g} (allowed: {tolerance:.3g}). Samples packed into one sequence would see each other; choose "
            "another 'attention' in the recipe, or micro_batch: 1 with flash_attention_2"
        )
    return leaked
