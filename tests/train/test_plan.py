"""What is said of a training before torch is loaded, from the run folder and the recipe alone."""

from __future__ import annotations

from pathlib import Path

from codeio_hpc.train.data import describe, open_corpus, write_corpus
from codeio_hpc.train.loop import proof_text
from codeio_hpc.train.plan import make_plan
from codeio_hpc.train.proof import Proof
from tests.train.tiny_run import make_run


def test_how_full_the_sequences_are_is_told_of_what_they_were_packed_to(tmp_path: Path) -> None:
    run = make_run(tmp_path, settings="facts: null")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("sequence_length: 48", "sequence_length: 480"))
    plan = make_plan(run, "stage1")
    assert (plan.recipe.length("stage1"), plan.capacity) == (480, 48)
    corpus = open_corpus(write_corpus(run, "stage1", plan.data))
    assert f"{corpus.lengths().mean() / 48:.0%} full" in describe(corpus, plan.capacity)


def test_the_proof_says_that_it_looked_at_the_first_samples_only() -> None:
    proof = Proof(({"prompt": "p", "trained": "t"},), 0.5, None, {"<eos>": 1_000, "\n": 5}, 0.0)
    first, second = proof_text(proof)[:2]
    assert first.startswith("the first 1,005 samples have no BOS") and "'<eos>' 1,000 times" in first
    assert second == "50.0% of all tokens are trained"
