"""From a sample to the steps that trained it."""

from __future__ import annotations

from pathlib import Path

from codeio_hpc.config.recipe import load_recipe
from codeio_hpc.report.rows import show_text
from codeio_hpc.train.data import open_corpus, order_of, write_corpus
from codeio_hpc.train.lineage import trained_at
from tests.train.tiny_run import make_run, sequence


def test_every_sequence_is_trained_where_it_is_said_to_be(tmp_path: Path) -> None:
    """Held against the batches themselves, over several epochs, with some kept for validation."""
    run = make_run(tmp_path, 20, stage=", validation_fraction: 0.2")
    assert trained_at(run, "stage1", "qstage13") is None, "before it has begun"
    corpus = open_corpus(write_corpus(run, "stage1", "f" * 64))
    order = order_of(corpus, load_recipe(tmp_path / "recipe.yaml").stage("stage1"), 3)
    batches = [order.batch(step).tolist() for step in range(20)]
    for number in range(16):
        told = trained_at(run, "stage1", sequence(number, "stage1")["sequence_id"])
        assert told is not None
        assert told["steps"] == [step + 1 for step, batch in enumerate(batches) if number in batch]
        assert told["validation"] == (number in order.validated.tolist()) == (not told["steps"])
        assert told["done"] == 0


def test_another_training_stage_counts_for_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path, 20)
    write_corpus(run, "stage2", "f" * 64)
    told = trained_at(run, "stage2", "qstage29")
    assert told is not None and told["stage"] == "stage2" and 1 <= len(told["steps"]) <= 6
    assert trained_at(run, "stage2", "qstage19") is None


def test_it_is_told_in_words() -> None:
    shown = {"id": "x", "rows": [], "rejected": None, "made": [], "candidates": [], "of_run": None}
    told = {"stage": "stage1", "steps": [3, 1200], "done": 10, "validation": False}
    kept = {"stage": "stage2", "steps": [], "done": 10, "validation": True}
    text = show_text({**shown, "trained": [told, kept]})
    assert "stage1: trained at step 3, 1,200 (to come)" in text
    assert "stage2: never trained, kept for validation" in text
