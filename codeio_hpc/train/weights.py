"""The weights of a model, one by one, from the facts of its config.json: arithmetic only, without torch.

Names and order are those of transformers 5, whose modules the test compares this with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from codeio_hpc.config.recipe import ModelFacts
from codeio_hpc.errors import UserError


@dataclass(frozen=True)
class Weight:
    """One tensor of weights."""

    name: str
    size: int
    """Elements."""
    active: int
    """Elements that a token is computed with: of a mixture's experts, those of the chosen ones."""


@lru_cache(maxsize=64)
def weights(facts: ModelFacts) -> tuple[Weight, ...]:
    """All weights, in the order of ``model.named_parameters()``.

    Raises:
        UserError: the architecture is not known, or the facts do not say enough.
    """
    decoder_layer = _LAYERS.get(facts.architecture)
    if decoder_layer is None:
        raise UserError(
            f"architecture {facts.architecture}",
            "its weights cannot be counted",
            f"known: {', '.join(sorted(_LAYERS))}",
        )
    if facts.intermediate is None:
        raise UserError(f"facts of a {facts.architecture} without 'intermediate'", "weights depend on it", "add it")
    found = [_weight("model.embed_tokens.weight", facts.vocabulary * facts.hidden)]
    for number in range(facts.layers):
        found += (
            Weight(f"model.layers.{number}.{each.name}", each.size, each.active)
            for each in decoder_layer(facts, number)
        )
    found.append(_weight("model.norm.weight", facts.hidden))
    if not facts.tied:
        found.append(_weight("lm_head.weight", facts.vocabulary * facts.hidden))
    return tuple(found)


def parameters(facts: ModelFacts) -> int:
    """All elements of all weights; a tied output layer counts once."""
    return sum(weight.size for weight in weights(facts))


def active_parameters(facts: ModelFacts) -> int:
    """Elements that a token is computed with, embedding and output layer included."""
    return sum(weight.active for weight in weights(facts))


def head_dim(facts: ModelFacts) -> int:
    """Elements of one head's query and key."""
    if facts.latent is not None:
        return facts.latent.nope_dim + facts.latent.rope_dim
    return facts.head_dim or facts.hidden // facts.heads


def value_dim(facts: ModelFacts) -> int:
    """Elements of one head's value."""
    return facts.latent.value_dim if facts.latent is not None else head_dim(facts)


def is_mixture(facts: ModelFacts, layer: int) -> bool:
    """Whether the layer of this 0-based number has experts."""
    return facts.experts is not None and layer >= facts.experts.dense_layers


def _weight(name: str, size: int) -> Weight:
    return Weight(name, size, size)


def _linear(name: str, inputs: int, outputs: int, bias: bool = False) -> Iterator[Weight]:
    yield _weight(f"{name}.weight", inputs * outputs)
    if bias:
        yield _weight(f"{name}.bias", outputs)


def _norms(facts: ModelFacts, *names: str) -> Iterator[Weight]:
    return (_weight(f"{name}.weight", facts.hidden) for name in names)


def _attention(facts: ModelFacts, bias: bool, output_bias: bool) -> Iterator[Weight]:
    queries, keys = facts.heads * head_dim(facts), facts.kv_heads * head_dim(facts)
    yield from _linear("self_attn.q_proj", facts.hidden, queries, bias)
    yield from _linear("self_attn.k_proj", facts.hidden, keys, bias)
    yield from _linear("self_attn.v_proj", facts.hidden, keys, bias)
    yield from _linear("self_attn.o_proj", queries, facts.hidden, output_bias)


def _feed_forward(name: str, hidden: int, intermediate: int) -> Iterator[Weight]:
    yield from _linear(f"{name}.gate_proj", hidden, intermediate)
    yield from _linear(f"{name}.up_proj", hidden, intermediate)
    yield from _linear(f"{name}.down_proj", intermediate, hidden)


def _llama(facts: ModelFacts, layer: int) -> Iterator[Weight]:
    yield from _attention(facts, facts.attention_bias, facts.attention_bias)
    yield from _feed_forward("mlp", facts.hidden, facts.intermediate or 0)
    yield from _norms(facts, "input_layernorm", "post_attention_layernorm")


def _qwen2(facts: ModelFacts, layer: int) -> Iterator[Weight]:
    yield from _attention(facts, bias=True, output_bias=False)
    yield from _feed_forward("mlp", facts.hidden, facts.intermediate or 0)
    yield from _norms(facts, "input_layernorm", "post_attention_layernorm")


def _gemma2(facts: ModelFacts, layer: int) -> Iterator[Weight]:
    yield from _attention(facts, facts.attention_bias, facts.attention_bias)
    yield from _feed_forward("mlp", facts.hidden, facts.intermediate or 0)
    yield from _norms(facts, "input_layernorm", "post_attention_layernorm")
    yield from _norms(facts, "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _deepseek_v2(facts: ModelFacts, layer: int) -> Iterator[Weight]:
    yield from _latent_attention(facts)
    if is_mixture(facts, layer):
        yield from _mixture(facts)
    else:
        yield from _feed_forward("mlp", facts.hidden, facts.intermediate or 0)
    yield from _norms(facts, "input_layernorm", "post_attention_layernorm")


def _latent_attention(facts: ModelFacts) -> Iterator[Weight]:
    latent = facts.latent
    if latent is None:
        raise UserError(f"facts of a {facts.architecture} without 'latent'", "its attention depends on it", "add it")
    queries = facts.heads * head_dim(facts)
    if latent.query_rank is None:
        yield from _linear("self_attn.q_proj", facts.hidden, queries)
    else:
        yield from _linear("self_attn.q_a_proj", facts.hidden, latent.query_rank, facts.attention_bias)
        yield _weight("self_attn.q_a_layernorm.weight", latent.query_rank)
        yield from _linear("self_attn.q_b_proj", latent.query_rank, queries)
    compressed = latent.kv_rank + latent.rope_dim
    yield from _linear("self_attn.kv_a_proj_with_mqa", facts.hidden, compressed, facts.attention_bias)
    yield _weight("self_attn.kv_a_layernorm.weight", latent.kv_rank)
    yield from _linear("self_attn.kv_b_proj", latent.kv_rank, facts.heads * (latent.nope_dim + latent.value_dim))
    yield from _linear("self_attn.o_proj", facts.heads * latent.value_dim, facts.hidden, facts.attention_bias)


def _mixture(facts: ModelFacts) -> Iterator[Weight]:
    """transformers 5 keeps the same matrix of all experts as one tensor."""
    experts = facts.experts
    assert experts is not None
    one = experts.intermediate * facts.hidden
    for name, matrices in (("gate_up_proj", 2), ("down_proj", 1)):
        yield Weight(f"mlp.experts.{name}", experts.count * matrices * one, experts.active * matrices * one)
    yield _weight("mlp.gate.weight", experts.count * facts.hidden)
    yield from _feed_forward("mlp.shared_experts", facts.hidden, experts.shared * experts.intermediate)


_LAYERS: dict[str, Callable[[ModelFacts, int], Iterator[Weight]]] = {
    "LlamaForCausalLM": _llama,
    "Qwen2ForCausalLM": _qwen2,
    "Gemma2ForCausalLM": _gemma2,
    "DeepseekV2ForCausalLM": _deepseek_v2,
}
