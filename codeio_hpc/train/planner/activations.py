"""Bytes of what the forward pass keeps for the backward pass, as transformers' modules and autograd keep it.

Counted tensor by tensor: the test compares with what autograd saves of the real modules. Norms compute in float32
whatever the weights are in; ``load.element`` is the size of everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from codeio_hpc.config.recipe import ModelFacts
from codeio_hpc.train.planner.load import Load
from codeio_hpc.train.weights import head_dim, is_mixture, value_dim, weights

_FLOAT = 4


@dataclass(frozen=True)
class LayerBytes:
    """Of one decoder layer, for one forward pass."""

    norms: float
    attention: float
    scores: float
    """Of attention: what grows with the square of the length."""
    feed_forward: float
    scores_passing: float
    """Gradients of scores that live beside what is kept, while the backward pass is there."""
    feed_forward_passing: float
    """The same in the feed-forward layer: the residual's gradient, and those of states or of its largest weight."""

    @property
    def kept(self) -> float:
        """From the forward to the backward pass."""
        return self.norms + self.attention + self.scores + self.feed_forward

    @property
    def peak(self) -> float:
        """In its backward pass: it begins at the feed-forward layer, whose share is gone when it comes to attention."""
        in_attention = self.norms / 2 + self.attention + self.scores + self.scores_passing
        return max(self.kept + self.feed_forward_passing, in_attention)


def largest_layer(load: Load) -> LayerBytes:
    """The layer that needs most."""
    return max((layer_bytes(load, number) for number in {0, load.facts.layers - 1}), key=lambda layer: layer.peak)


def kept_by_layers(load: Load) -> float:
    """Of all layers together, their inputs only where activations are recomputed; and the mask that they share."""
    mask = load.rows * load.length**2 * {"sdpa": 1, "eager": load.element}.get(load.attention, 0)
    if load.checkpointing:
        return float(mask + load.facts.layers * load.tokens * load.facts.hidden * load.element)
    return mask + sum(layer_bytes(load, number).kept for number in range(load.facts.layers))


def layer_bytes(load: Load, layer: int) -> LayerBytes:
    """What the layer of this 0-based number keeps."""
    facts, element = load.facts, load.element
    scores, scores_passing = _scores(load)
    feed_forward, passing = (_mixture if is_mixture(facts, layer) else _dense)(load)
    largest = max(each.size for each in weights(facts) if each.name.startswith(f"model.layers.{layer}."))
    return LayerBytes(
        norms=load.tokens * _norms(facts, element),
        attention=load.tokens * _attention(load),
        scores=scores,
        feed_forward=load.tokens * feed_forward,
        scores_passing=scores_passing,
        feed_forward_passing=load.tokens * element * facts.hidden
        + load.tokens * passing.first
        + max(load.tokens * passing.then, element * largest),
    )


def loss_bytes(load: Load) -> float:
    """The output layer and the loss in its backward pass, as ``train/forward.py`` makes them.

    In float32: logarithms of probabilities, the gradients of those and of logits, and where logits are capped the
    capped ones. Where they come in chunks, the gradient of the output layer's weights grows from chunk to chunk.
    """
    facts, element = load.facts, load.element
    capped = _FLOAT if facts.architecture == "Gemma2ForCausalLM" else 0
    logits = load.loss_positions * facts.vocabulary
    gradient = element * facts.vocabulary * facts.hidden
    grown = gradient if load.loss_positions < load.tokens else 0
    states = load.tokens * (_norm(facts.hidden, element) + element * facts.hidden)
    return states + grown + max((3 * _FLOAT + capped) * logits, gradient + element * logits)


def _norm(width: int, element: int) -> float:
    """An RMSNorm: its input (in float32), the normalised state, and the output, which the next matrix product keeps."""
    return (_FLOAT + 2 * element) * width


def _norms(facts: ModelFacts, element: int) -> float:
    if facts.architecture == "Gemma2ForCausalLM":  # four in float32 throughout; outputs of two go into matrix products
        return (4 * 2 * _FLOAT + 2 * element) * facts.hidden
    return 2 * _norm(facts.hidden, element)


def _attention(load: Load) -> float:
    """Queries, keys, values and outputs of one token. Only transformers' FlashAttention and FlexAttention take keys and
    values that several heads share; for the others they are repeated."""
    facts, element = load.facts, load.element
    queries, outputs = facts.heads * head_dim(facts), facts.heads * value_dim(facts)
    if facts.latent is not None:
        compressed = _norm(facts.latent.kv_rank, element)
        if load.attention == "varlen":  # values and outputs are made as wide as queries
            return compressed + element * (4 * queries + outputs)
        values = facts.heads * (facts.latent.nope_dim + value_dim(facts))  # a view of a tensor that stays whole
        return compressed + element * (2 * queries + values + outputs)
    shared = load.attention in ("flash_attention_2", "flex_attention")
    keys = (facts.kv_heads if shared else facts.heads) * head_dim(facts)
    return element * (queries + 2 * keys + outputs)


def _scores(load: Load) -> tuple[float, float]:
    """What one layer keeps of its scores, and what passes beside it in the backward pass."""
    element, square = load.element, load.rows * load.length**2
    every_head = square * load.facts.heads
    uneven = load.facts.latent is not None  # queries and values differ in width: no fused kernel on CPU
    if load.attention == "eager" or (load.attention == "sdpa" and load.device == "cpu" and uneven):
        softmax = _FLOAT + (element if element != _FLOAT else 0)  # computed in float32, then cast
        capped = element if load.facts.architecture == "Gemma2ForCausalLM" else 0
        return every_head * (softmax + capped), every_head * (8 if element == _FLOAT else 6)
    sums = float(load.tokens * load.facts.heads * _FLOAT)
    return sums + (square * element if load.attention == "sdpa" else 0), 0.0  # the mask of sdpa, as numbers


class _Passing(NamedTuple):
    """Gradients in a feed-forward layer, of one token: the first, and those that it becomes beside a weight's."""

    first: float
    then: float


def _dense(load: Load) -> tuple[float, _Passing]:
    """Of one token: gate, up, activated gate, and their product; the product's gradient, then those of gate and up."""
    width = load.element * (load.facts.intermediate or 0)
    return 4.0 * width, _Passing(width, width)


def _mixture(load: Load) -> tuple[float, _Passing]:
    """Of one token: its state and the result once for each chosen expert, and the shared experts."""
    facts, element = load.facts, load.element
    experts = facts.experts
    assert experts is not None
    routed = experts.active * element * (2 * facts.hidden + 4 * experts.intermediate)
    router = _FLOAT * facts.hidden if element != _FLOAT else 0
    shared = 4 * element * experts.shared * experts.intermediate
    gradients = experts.active * element * (2 * facts.hidden + 3 * experts.intermediate)
    return float(routed + router + shared), _Passing(0.0, gradients)
