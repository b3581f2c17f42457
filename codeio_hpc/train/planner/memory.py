"""Memory of one rank: what lives at each moment of a step that could be the fullest.

Model states as DeepSpeed 0.19 allocates them (``runtime/zero/stage_1_and_2.py``, ``stage3.py``), activations as
transformers and autograd keep them. Bytes of tensors: CUDA's context, NCCL's buffers and fragmentation come on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from codeio_hpc.config.recipe import ModelFacts
from codeio_hpc.train.engines.zero import LIVE, REDUCE_BUCKET, SUB_GROUP
from codeio_hpc.train.planner.activations import kept_by_layers, largest_layer, loss_bytes
from codeio_hpc.train.planner.load import Load
from codeio_hpc.train.weights import parameters, weights

ADAM_SCRATCH = {"cuda": 0, "cpu": 8}
"""Bytes of temporaries for each element in torch's AdamW: none where it is fused, as the engine has it on GPUs;
otherwise a square root and a quotient."""


@dataclass(frozen=True)
class Part:
    """One thing that lives."""

    name: str
    how: str
    """It is calculated: P parameters, N ranks."""
    bytes: float


@dataclass(frozen=True)
class Moment:
    """What lives at the same time."""

    name: str
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> float:
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class _Sizes:
    """Elements."""

    all: int
    share: float
    """Of which a rank holds the optimiser's state."""
    owned: int
    """Of the gradients that a rank keeps in ZeRO-2: whole tensors, also where only a part is its own."""
    largest: int
    embedding: int
    bucket: int
    """Reserved at once on a GPU, and page by page as it is written on CPU."""

    @property
    def is_filled(self) -> bool:
        """The bucket is reduced before the backward pass is over."""
        return self.all > REDUCE_BUCKET


def fullest(load: Load) -> Moment:
    """The moment at which a rank holds most."""
    return max(moments(load), key=lambda moment: moment.bytes)


def moments(load: Load) -> list[Moment]:
    """The moments of a step, in their order."""
    count = parameters(load.facts)
    sizes = _Sizes(
        all=count,
        share=count / load.ranks,
        owned=_owned(load.facts, load.ranks),
        largest=max(weight.size for weight in weights(load.facts)),
        embedding=load.facts.vocabulary * load.facts.hidden,
        bucket=REDUCE_BUCKET if load.device == "cuda" else min(REDUCE_BUCKET, count),
    )
    return list(_zero3(load, sizes) if load.zero == 3 else _zero2(load, sizes))


def _owned(facts: ModelFacts, ranks: int) -> int:
    """Elements of all tensors that reach into the part of the rank whose tensors are largest."""
    ends = list(accumulate(weight.size for weight in weights(facts)))
    share = -(-ends[-1] // ranks)
    owned = [0] * ranks
    begin = 0
    for end in ends:
        for rank in range(begin // share, (end - 1) // share + 1):
            owned[rank] += end - begin
        begin = end
    return max(owned)


def _states(load: Load, sizes: _Sizes) -> tuple[Part, ...]:
    master, adam = (
        Part("master weights", "4 P / N", 4 * sizes.share),
        Part("Adam's moments", "8 P / N", 8 * sizes.share),
    )
    if load.zero == 3:
        return Part("weights", f"{load.element} P / N", load.element * sizes.share), master, adam
    return Part("weights", f"{load.element} P", load.element * sizes.all), master, adam


def _passes(load: Load, sizes: _Sizes) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """Activations at the loss, and at the beginning of the backward pass."""
    kept = Part("activations", "layers' inputs" if load.checkpointing else "all layers", kept_by_layers(load))
    yield "loss", (kept, Part("logits and loss", f"{load.loss_positions:,} positions", loss_bytes(load)))
    layer = largest_layer(load)
    passing = layer.peak if load.checkpointing else layer.peak - layer.kept
    how = "recomputed, and gradients" if load.checkpointing else "gradients"
    output = Part("output layer's gradient", "waits for the embedding's", float(load.element * sizes.embedding))
    yield "backward pass", (kept, Part("one layer", how, passing), *((output,) if load.facts.tied else ()))


def _zero2(load: Load, sizes: _Sizes) -> Iterator[Moment]:
    element, states = load.element, _states(load, sizes)
    own = Part("gradients", f"{element} P / N, accumulated", element * sizes.owned)
    before = (*states, own) if load.accumulates else states
    new = Part("new gradients", f"{element} P / N, of this micro-batch", own.bytes)
    bucket = Part("reduce bucket", f"{element} x {sizes.bucket:,}", float(element * sizes.bucket))
    copied = min(sizes.all, REDUCE_BUCKET) if load.ranks > 1 else 0
    copy = Part("its copy", f"{element} x {copied:,}", float(element * copied))
    (loss, at_loss), (backward, in_backward) = _passes(load, sizes)
    yield Moment(loss, (*before, *at_loss))
    yield Moment(backward, (*before, *in_backward, *((bucket, copy, new) if sizes.is_filled else ())))
    arriving = sizes.embedding * (2 if load.facts.tied else 1)
    arriving += sizes.embedding if sizes.embedding > REDUCE_BUCKET and load.ranks > 1 else 0
    last = Part("embedding's gradient", "as it comes", float(element * arriving))
    if sizes.is_filled:
        yield Moment("embedding", (*before, new, bucket, max(last, copy, key=lambda part: part.bytes)))
    else:
        yield Moment("reduction", (*before, bucket, max(last, copy, new, key=lambda part: part.bytes)))
    yield Moment(
        "gradient norm", (*states, own, Part("in float64", "8 x largest", 8 * min(sizes.largest, sizes.share)))
    )
    flat = Part("gradients, flat", f"{element} P / N", element * sizes.share)
    exact = Part("gradients in float32", "4 P / N", 4 * sizes.share)
    yield Moment("update begins", (*states, own, flat, *((exact,) if element < 4 else ())))
    yield Moment("update", (*states, exact, *_adam(load, sizes.share)))


def _adam(load: Load, elements: float) -> Iterator[Part]:
    scratch = ADAM_SCRATCH[load.device]
    if scratch:
        yield Part("AdamW's temporaries", f"{scratch} P / N", scratch * elements)


def _zero3(load: Load, sizes: _Sizes) -> Iterator[Moment]:
    element = load.element
    always = (
        *_states(load, sizes),
        Part("gradients", f"{element} P / N", element * sizes.share),
        Part("reduce bucket", f"{element} x {sizes.bucket:,}", float(element * sizes.bucket)),
    )
    live = min(sizes.all, max(LIVE, sizes.embedding))
    gathered = Part("gathered weights", f"{element} x {live:,}", float(element * live))
    copied = min(sizes.all, REDUCE_BUCKET)
    copy = Part("its copy", f"{element} x {copied:,}", float(element * copied))
    (loss, at_loss), (backward, in_backward) = _passes(load, sizes)
    yield Moment(loss, (*always, gathered, *at_loss))
    yield Moment(backward, (*always, gathered, *in_backward, copy))
    group = min(sizes.share, SUB_GROUP)
    exact = Part("gradients in float32", "4 P / N", 4 * group)
    half = Part("gradients, flat", f"{element} P / N", element * group)
    yield Moment("update begins", (*always, half, *((exact,) if element < 4 else ())))
    yield Moment("update", (*always, exact, *_adam(load, group)))
