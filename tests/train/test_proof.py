"""What is tried before the first step, on all four families; and the loss, against transformers' own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.train import forward
from codeio_hpc.train.collate import MicroBatch, borders_of
from codeio_hpc.train.data import Corpus
from codeio_hpc.train.forward import Network
from codeio_hpc.train.proof import probe_isolation, probe_loss, prove
from tests.train.architectures import ARCHITECTURES, tiny_model

PATHS = [(family, attention) for family in ARCHITECTURES for attention in ("eager", "sdpa", "varlen")]
SHIPPED = [path for path in PATHS if path not in (("gemma2", "sdpa"), ("gemma2", "varlen"))]
"""Neither knows the soft-cap of Gemma 2's attention."""


def packed(rows: int, lengths: list[int], seed: int = 0) -> MicroBatch:
    """Random samples of these lengths in every row; the second half of each is trained."""
    chance = np.random.RandomState(seed)
    ids = torch.from_numpy(chance.randint(0, 128, (rows, sum(lengths))))
    positions = torch.cat([torch.arange(length) for length in lengths]).expand(rows, -1)
    trained = torch.cat([torch.arange(length) >= length // 2 for length in lengths]).expand(rows, -1)
    at = trained.flatten().nonzero().flatten()
    return MicroBatch(
        ids, positions, at - 1, ids.flatten()[at], torch.from_numpy(borders_of(positions.numpy())), max(lengths)
    )


def loss_of(network: Network, micro: MicroBatch) -> torch.Tensor:
    return network(**vars(micro))


@pytest.mark.parametrize(("family", "attention"), SHIPPED)
def test_the_probe_passes_the_attention_paths_of_the_recipes(family: str, attention: str) -> None:
    network = Network(tiny_model(family, attention))
    assert probe_isolation(network, 2) <= 1e-4
    probe_loss(network)


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("trap", ["a mask of ones", "a cache", "no positions", "a mask without borders"])
def test_the_probe_fails_on_a_broken_mask(family: str, trap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these is silent: the model trains on, and samples see their neighbours."""
    model = tiny_model(family)
    if trap == "a mask without borders":
        monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", lambda positions: None)
    else:
        _spoil(model, trap)
    with pytest.raises(RunFailedError, match="isolation probe"):
        probe_isolation(Network(model), 2)


def _spoil(model: Any, trap: str) -> None:
    usual = model.base_model.forward

    def spoilt(**arguments: Any) -> Any:
        if trap == "a mask of ones":
            arguments["attention_mask"] = torch.ones_like(arguments["input_ids"])
        elif trap == "a cache":
            arguments["use_cache"] = True
        else:
            del arguments["position_ids"]
        return usual(**arguments)

    model.base_model.forward = spoilt


def test_the_probe_fails_where_nothing_is_seen_at_all() -> None:
    """A model that gives the same whatever it reads would pass a test for leaks alone."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with pytest.raises(RunFailedError, match="isolation probe"):
        probe_isolation(Network(model), 1)


@pytest.mark.parametrize(("family", "attention"), SHIPPED)
def test_packed_samples_have_the_logits_they_have_alone(family: str, attention: str) -> None:
    model, alone_model, lengths = tiny_model(family, attention), tiny_model(family), [7, 40, 1, 13]
    micro = packed(2, lengths)
    with torch.no_grad():
        everywhere = replace(micro, predicting=torch.arange(2 * sum(lengths)), targets=None)  # type: ignore[arg-type]
        logits = loss_of(Network(model), everywhere).view(2, -1, 128)
        for row in range(2):
            for end, length in zip(np.cumsum(lengths), lengths, strict=True):
                alone = alone_model(micro.input_ids[row : row + 1, end - length : end], use_cache=False).logits[0]
                torch.testing.assert_close(logits[row, end - length : end], alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("family", "attention"), SHIPPED)
def test_loss_and_gradients_by_chunks_are_those_of_the_models_own_logits(
    family: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, micro = tiny_model(family), packed(2, [9, 30, 5])
    logits = model(input_ids=micro.input_ids, position_ids=micro.position_ids, use_cache=False).logits.flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits[micro.predicting].float(), micro.targets, reduction="sum")
    expected.backward()
    model.set_attn_implementation(attention)
    gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    for chunk, chunks in ((1024, None), (7, None), (1024, 3), (1024, 100)):
        model.zero_grad()
        monkeypatch.setattr(forward, "CHUNK", chunk)
        loss = loss_of(Network(model, chunks), micro)
        loss.backward()
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        assert {name for name, each in model.named_parameters() if each.grad is not None} == set(gradients)
        for name, each in model.named_parameters():
            if name in gradients:
                torch.testing.assert_close(each.grad, gradients[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_micro_batch_without_trained_tokens_has_a_loss_of_nothing_with_gradients() -> None:
    network = Network(tiny_model("llama"))
    micro = packed(1, [8])
    nothing = replace(micro, predicting=micro.predicting[:0], targets=micro.targets[:0])
    loss = loss_of(network, nothing)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(each.grad is not None for each in network.parameters()), "of other ranks' collective operations"


def test_a_model_whose_head_does_more_is_refused() -> None:
    model = tiny_model("llama")
    usual = model.forward

    def scaled(**arguments: Any) -> Any:
        output = usual(**arguments)
        output.logits = output.logits * 0.5
        return output

    model.forward = scaled
    with pytest.raises(RunFailedError, match="does something about its head"):
        probe_loss(Network(model))


class Letters:
    """As much of a tokenizer as the proof asks: token n is written as a letter; 1 begins, 2 ends."""

    bos_token_id: int | None = 1
    all_special_ids = (1, 2)
    added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012 - never changed

    def decode(self, ids: Any) -> str:
        return "".join({1: "<bos>", 2: "<eos>"}.get(int(i), chr(97 + int(i))) for i in ids)


def corpus(*samples: list[int]) -> Corpus:
    """One sequence of these samples; their second halves are trained."""
    tokens = np.array([token for sample in samples for token in sample], np.int32)
    targets = np.concatenate([np.arange(len(sample)) >= len(sample) // 2 for sample in samples])
    starts = np.cumsum([0, *[len(sample) for sample in samples[:-1]]]).astype(np.int32)
    ends = np.array([0, len(tokens)]), np.array([0, len(samples)])
    return Corpus(tokens, targets, ends[0], starts, ends[1], np.array([targets.sum()]), np.zeros(1))


def proved(made: Corpus, tokenizer: Any = None) -> Any:
    return prove(made, np.array([0]), tokenizer or Letters(), Network(tiny_model("llama")), 1)


def test_the_proof_shows_what_is_learned() -> None:
    proof = proved(corpus([1, 5, 6, 7, 8, 2], [1, 9, 10, 2]))
    assert proof.samples[0] == {"prompt": "<bos>fg", "trained": "hi<eos>"}
    assert (proof.bos, proof.ends, proof.trained_share) == (1, {"<eos>": 2}, 0.5)


@pytest.mark.parametrize("sample", [[5, 6, 7, 2], [1, 1, 6, 2], [5, 1, 6, 2]])
def test_a_sample_without_exactly_one_bos_at_its_start_is_refused(sample: list[int]) -> None:
    with pytest.raises(UserError, match="BOS tokens"):
        proved(corpus([1, 5, 6, 2], sample))


def test_a_tokenizer_without_bos_needs_none() -> None:
    tokenizer = Letters()
    tokenizer.bos_token_id = None
    assert proved(corpus([5, 6, 7, 2]), tokenizer).bos is None


def test_samples_that_end_with_no_end_token_are_refused() -> None:
    with pytest.raises(UserError, match="never learn to stop"):
        proved(corpus([1, 5, 6, 2], [1, 5, 6, 7]))
