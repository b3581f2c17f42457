"""From shards to batches to tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codeio_hpc.config.recipe import StageRecipe
from codeio_hpc.errors import UserError
from codeio_hpc.train.collate import collate
from codeio_hpc.train.data import (
    Batches,
    cautions,
    micro_batches,
    open_corpus,
    order_of,
    split_validation,
    write_corpus,
)
from codeio_hpc.train.plan import make_plan
from tests.train.tiny_run import make_run, sequence


def corpus_of(folder: Path):
    return open_corpus(write_corpus(make_run(folder), "stage1", "f" * 64))


def test_a_curriculum_goes_from_easy_to_hard_in_the_first_epoch_only(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    assert corpus.difficulty.tolist() == [number * 7 % 16 for number in range(16)]
    batches = Batches(np.ones(16, np.int64), 3, seed=4, difficulty=corpus.difficulty)
    epochs = [
        [number for step in range(6) for number in batches.batch(epoch * 6 + step).tolist()] for epoch in range(2)
    ]
    assert corpus.difficulty[epochs[0]].tolist() == sorted(corpus.difficulty)
    assert sorted(epochs[1]) == list(range(16)) and epochs[1] != epochs[0]


def test_the_corpus_is_what_the_shards_say(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    rows = [sequence(number, "stage1") for number in range(16)]
    assert len(corpus) == 16
    for number, row in enumerate(rows):
        span = slice(corpus.offsets[number], corpus.offsets[number + 1])
        assert corpus.tokens[span].tolist() == row["input_ids"]
        wanted = [on and index not in row["starts"] for index, on in enumerate(row["trained"])]
        assert corpus.targets[span].tolist() == wanted
        assert corpus.trained[number] == sum(wanted)
        assert corpus.starts[corpus.start_offsets[number] : corpus.start_offsets[number + 1]].tolist() == row["starts"]


def test_a_missing_shard_is_a_user_error_that_names_the_command(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "stages/11-tokenise/part-00001.parquet").unlink()
    with pytest.raises(UserError, match=f"codeio resume {run}"):
        make_plan(run, "stage1")


@pytest.mark.parametrize("batch_size", [1, 7, 64, 10_000])
def test_an_epoch_has_every_sequence_once_in_batches_of_about_the_size(batch_size: int) -> None:
    sizes = np.random.RandomState(0).randint(1, 9, 500)
    batches = Batches(sizes, batch_size, seed=4)
    parts = [batches.batch(step) for step in range(batches.per_epoch)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    assert all(len(part) for part in parts)
    if 8 < batch_size < sizes.sum():
        assert all(abs(sizes[part].sum() - batch_size) <= 8 for part in parts[:-1])
        assert batches.per_epoch == -(-sizes.sum() // batch_size)


def test_a_batch_depends_on_seed_and_number_only() -> None:
    sizes = np.ones(40, np.int64)
    forwards = [Batches(sizes, 8, 1).batch(step).tolist() for step in range(12)]
    backwards = Batches(sizes, 8, 1)
    assert [backwards.batch(step).tolist() for step in reversed(range(12))] == forwards[::-1]
    assert forwards[0] != forwards[5]  # another epoch, another order
    assert Batches(sizes, 8, 2).batch(0).tolist() != forwards[0]


def test_what_is_kept_for_validation_is_never_trained_and_the_same_every_time() -> None:
    trained, kept = split_validation(1000, 0.1, seed=5)
    assert sorted([*trained, *kept]) == list(range(1000)) and len(kept) == 100
    assert (
        kept.tolist() == split_validation(1000, 0.1, seed=5)[1].tolist() != split_validation(1000, 0.1, 6)[1].tolist()
    )
    assert kept.tolist() == sorted(kept)
    assert [len(part) for part in split_validation(7, 0.01, 5)] == [6, 1]
    assert [len(part) for part in split_validation(7, 0.0, 5)] == [7, 0]


@pytest.mark.parametrize(("ranks", "size"), [(1, 1), (2, 3), (4, 2), (7, 5)])
def test_all_ranks_together_do_each_sequence_once_in_equally_many_micro_batches(ranks: int, size: int) -> None:
    batch = np.arange(100, 123)
    shares = [micro_batches(batch, rank, ranks, size) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(i for share in shares for part in share for i in part.tolist()) == batch.tolist()


def test_rows_are_padded_with_a_document_of_their_own(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    lengths = corpus.lengths()
    short, long = int(lengths.argmin()), int(lengths.argmax())
    batch = collate(corpus, np.array([short, long]), pad=0)
    assert batch.input_ids.shape == (2, lengths[long])
    row = sequence(short, "stage1")
    length = len(row["input_ids"])
    restarts = [index for index, position in enumerate(batch.position_ids[0].tolist()) if position == 0]
    assert restarts == [*row["starts"], *([length] if length < lengths[long] else [])]
    span = slice(int(corpus.offsets[short]), int(corpus.offsets[short + 1]))
    first = [place + 1 for place in batch.predicting.tolist() if place < lengths[long]]
    assert first == np.flatnonzero(corpus.targets[span]).tolist()
    assert batch.targets.tolist()[: len(first)] == np.array(row["input_ids"])[first].tolist()
    empty = collate(corpus, np.array([], np.int64), pad=0)
    assert len(empty.predicting) == len(empty.targets) == 0
    assert empty.input_ids.shape == (1, 2)


def test_damaged_sequences_are_refused_with_what_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    part = run / "stages" / "11-tokenise" / "part-00001.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 0xFF
    part.write_bytes(data)
    with pytest.raises(UserError, match="codeio resume"):
        write_corpus(run, "stage1", "fingerprint")


def test_a_warm_up_that_never_ends_and_ranks_without_work_are_told(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    common = {"schedule": "constant", "lr": 1e-3, "batch_unit": "sequences", "epochs": 1}
    large = StageRecipe.model_validate({**common, "batch_size": 1000, "warmup_steps": 4})
    [warm] = cautions(order_of(corpus, large, 0), large, 2)
    assert "1 step of 4 of warm-up: the learning rate gets to 0.00025, never to 0.001" in warm
    small = StageRecipe.model_validate({**common, "batch_size": 3, "micro_batch": 2})
    assert cautions(order_of(corpus, small, 0), small, 2) == []
    [idle] = cautions(order_of(corpus, small, 0), small, 3)
    assert "1 rank of 3 without work: the first batch has 3 sequences" in idle
