"""What is shown and tried before the first step, by the real model and the real data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.train.collate import MicroBatch
from codeio_hpc.train.counting import plural
from codeio_hpc.train.data import Array, Corpus
from codeio_hpc.train.engines.base import Reader
from codeio_hpc.train.forward import Network, evaluating

_SHOWN = 3
"""Samples that are shown."""
_READ = 1000
"""Samples whose first and last tokens are looked at."""


@dataclass(frozen=True)
class Proof:
    """What was seen."""

    samples: tuple[dict[str, str], ...]
    """Some samples, each as what the model sees and what it learns: {"prompt": ..., "trained": ...}"""
    trained_share: float
    """Of all tokens"""
    bos: int | None
    """The token that every sample begins with, exactly once; None where the tokenizer has none"""
    ends: dict[str, int]
    """Last trained tokens of the samples that were read, and how often each"""
    leaked: float
    """How much one sample's logits changed when its neighbour was changed; nothing but rounding"""


def prove(corpus: Corpus, order: Array, tokenizer: Any, model: Reader, rows: int) -> Proof:
    """Look at the first samples that will be trained (``order``: sequence numbers), and try the attention path.

    Raises:
        UserError: a sample has no BOS or several, or the last token that is trained is not one that ends a turn.
        RunFailedError: samples that share a sequence see each other.
    """
    documents = list(_documents(corpus, order))
    bos = tokenizer.bos_token_id if _uses_bos(documents, tokenizer) else None
    if bos is not None:
        _check_bos(documents, bos)
    ends = _ends(documents, tokenizer)
    shown = tuple(_show(ids, trained, tokenizer) for ids, trained in documents[:_SHOWN])
    leaked = probe_isolation(model, rows)
    return Proof(shown, float(corpus.trained.sum()) / max(1, int(corpus.offsets[-1])), bos, ends, leaked)


def _documents(corpus: Corpus, order: Array) -> Iterator[tuple[Array, Array]]:
    """Tokens and trained flags of the first samples in the order of training."""
    left = _READ
    for number in order:
        begin, end = int(corpus.offsets[number]), int(corpus.offsets[number + 1])
        starts = corpus.starts[corpus.start_offsets[number] : corpus.start_offsets[number + 1]]
        for first, last in zip(starts, [*starts[1:], end - begin], strict=True):
            yield corpus.tokens[begin + first : begin + last], corpus.targets[begin + first : begin + last]
            left -= 1
            if not left:
                return


def _uses_bos(documents: list[tuple[Array, Array]], tokenizer: Any) -> bool:
    """Qwen's tokenizers name no BOS at all; where there is one, every sample must have it."""
    return tokenizer.bos_token_id is not None and bool(documents)


def _check_bos(documents: list[tuple[Array, Array]], bos: int) -> None:
    for ids, _ in documents:
        count = int((ids == bos).sum())
        if count != 1 or ids[0] != bos:
            where = "none" if not count else f"{count}, the first at {int((ids == bos).argmax())}"
            raise UserError(
                f"a sample with BOS tokens: {where}",
                "a model that was trained with exactly one, at the start, loses more by that than training gives",
                "correct the chat template and tokenise again",
            )


def _ends(documents: list[tuple[Array, Array]], tokenizer: Any) -> dict[str, int]:
    counts: dict[int, int] = {}
    for ids, trained in documents:
        if trained.any():
            last = int(ids[np.flatnonzero(trained)[-1]])
            counts[last] = counts.get(last, 0) + 1
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    for token in counts:
        if token not in special and not tokenizer.decode([token]).isspace():
            raise UserError(
                f"{counts[token]} of {len(documents)} samples end with the token {tokenizer.decode([token])!r}",
                "it ends no turn, so the model would never learn to stop",
                "let the chat template end the assistant's turn with the tokenizer's end token, and tokenise again",
            )
    return {tokenizer.decode([token]): count for token, count in sorted(counts.items())}


def _show(ids: Array, trained: Array, tokenizer: Any) -> dict[str, str]:
    first = int(trained.argmax()) if trained.any() else len(ids)
    return {"prompt": tokenizer.decode(ids[:first].tolist()), "trained": tokenizer.decode(ids[trained].tolist())}


def probe_isolation(model: Reader, rows: int) -> float:
    """Change one document and look at its neighbour in the same sequence; the largest change of its logits.

    Every fast path that ignores document borders does so in silence (a mask of ones, a cache, FlashAttention with
    more than one row), so the real path is tried before the first step.

    Raises:
        RunFailedError: the neighbour's logits changed, or the changed document's did not.
    """
    length, vocabulary = 24, int(model.config.vocab_size)
    numbers = np.random.RandomState(0).randint(0, vocabulary, (2, rows, 2 * length))
    first, second = (torch.from_numpy(ids.astype(np.int64)) for ids in numbers)
    second[:, length:] = first[:, length:]
    positions = torch.arange(length).repeat(2).expand(rows, -1)
    everywhere = torch.arange(rows * 2 * length)
    borders = torch.arange(0, rows * 2 * length + 1, length, dtype=torch.int32)
    one, other = (
        model.logits(MicroBatch(ids, positions, everywhere, everywhere, borders, length)) for ids in (first, second)
    )
    difference = (one - other).abs().view(rows, 2 * length, -1)
    changed, leaked = float(difference[:, :length].max()), float(difference[:, length:].max())
    tolerance = _tolerance(model) * float(one.abs().max())
    if not changed > tolerance or not leaked <= tolerance:
        raise RunFailedError(
            f"isolation probe: changing one sample changed its own logits by {changed:.3g} and its neighbour's by "
            f"{leaked:.3g} (allowed: {tolerance:.3g}). Samples packed into one sequence would see each other; choose "
            "another 'attention' in the recipe, or micro_batch: 1 with flash_attention_2"
        )
    return leaked


def probe_loss(network: Network) -> None:
    """Hold the loss that will be trained against that of the logits which the model gives by itself.

    Training takes the model apart. A model that does more between its body and its head, or behind the head, would be
    trained on another loss than it is used with.

    Raises:
        RunFailedError: they differ.
    """
    model, length = network.model, 32
    device = network.device
    numbers = np.random.RandomState(1).randint(0, int(model.config.vocab_size), (1, length))
    ids = torch.from_numpy(numbers.astype(np.int64)).to(device)
    positions = torch.arange(length, device=device)
    with evaluating(network):
        borders = torch.tensor([0, length], dtype=torch.int32, device=device)
        ours = float(network(ids, positions[None], positions[:-1], ids[0, 1:], borders, length))
        samples = network.samples(borders, length)
        logits = model(input_ids=ids, position_ids=positions[None], use_cache=False, **samples).logits
        theirs = float(torch.nn.functional.cross_entropy(logits[0, :-1].float(), ids[0, 1:], reduction="sum"))
    if not abs(ours - theirs) <= _tolerance(network) * abs(theirs):
        raise RunFailedError(
            f"{type(model).__name__}: the loss in training is {ours:.6g}, that of the model's own logits {theirs:.6g}. "
            "This architecture does something about its head that training does not know; it cannot be trained here"
        )


def _tolerance(model: Reader) -> float:
    """How much of a result may be rounding."""
    return 1e-5 if model.dtype == torch.float32 else 2e-2


def proof_text(proof: Proof) -> list[str]:
    """What was seen before the first step, in lines for people."""
    ends = ", ".join(f"{token!r} {count:,} times" for token, count in proof.ends.items())
    bos = "no BOS (the tokenizer has none)" if proof.bos is None else "one BOS, at the start"
    lines = [
        f"in the first batches, {plural(sum(proof.ends.values()), 'sample')} have {bos}, and end with {ends}",
        f"{proof.trained_share:.1%} of all tokens are trained",
        f"samples of a sequence do not see each other (largest change {proof.leaked:.1g})",
    ]
    for sample in proof.samples[:1]:
        lines.append(
            f"the first sample: ...{sample['prompt'][-120:]!r} is read, {_cut(sample['trained'])!r} is learned"
        )
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:80]} ... {text[-75:]}"
