"""What is said of a training before torch is loaded, from the run folder and the recipe alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.evaluate.run import _folders, evaluate
from codeio_hpc.launch.run import open_run
from codeio_hpc.train.data import describe, open_corpus, samples_by_stage, write_corpus
from codeio_hpc.train.loop import proof_text
from codeio_hpc.train.plan import make_plan
from codeio_hpc.train.proof import Proof
from tests.train.tiny_run import MODEL, make_run


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
    assert first.startswith("in the first batches, 1,005 samples have no BOS") and "'<eos>' 1,000 times" in first
    assert second == "50.0% of all tokens are trained"


def test_a_stage_without_samples_is_told_what_there_is_and_how_to_go_on(tmp_path: Path) -> None:
    run = make_run(tmp_path, stages=["stage2"])
    with pytest.raises(UserError) as error:
        make_plan(run, "stage1")
    count = samples_by_stage(run)["stage2"]
    assert error.value.found == f"{run}: no samples of stage1, but {count} of stage2"
    assert error.value.fix.startswith(
        f"codeio train {run} --stage stage2, which needs no stage1; or build a run of code"
    )
    make_plan(run, "stage2")
    with pytest.raises(UserError, match=r"no samples of stage2 nor of any other stage\n.*\n.*codeio rejected"):
        make_plan(make_run(tmp_path / "empty", sequences=0), "stage2")


def test_the_evaluation_of_such_a_run_does_not_ask_for_a_training_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, stages=["stage2"], sources=[], samples=[{"name": "chats", "path": "chats.jsonl"}])
    with pytest.raises(UserError, match=r"no held-out functions\n.*\n.*codeio tokenize CODE"):
        evaluate(run, None, False)
    with pytest.raises(UserError, match=f"train first: codeio train {run} --stage stage2"):
        _folders(open_run(run), None)


def test_a_run_without_a_recipe_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="codeio tokenize RUN --recipe R --run NEW"):
        make_plan(make_run(tmp_path, recipe=None), "stage2")


def test_why_tokens_do_not_fit_is_told_apart(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    run = make_run(tmp_path, model=tmp_path / "model")
    parts = sorted((run / "stages" / "11-tokenise").glob("part-*"))
    make_plan(run, "stage1")
    whole = parts[1].read_bytes()
    parts[1].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError) as error:
        make_plan(run, "stage1")
    assert error.value.found == f"{run}: {parts[1]} is cut or damaged"
    parts[1].write_bytes(whole)
    changed = tmp_path / "model" / "tokenizer_config.json"
    changed.write_text(changed.read_text(encoding="utf-8") + " ", encoding="utf-8")
    later = parts[0].stat().st_mtime + 9
    os.utime(changed, (later, later))
    with pytest.raises(UserError) as error:
        make_plan(run, "stage1")
    assert "2 of 2 shards were tokenised with another tokenizer, chat template" in error.value.found
    assert f"(changed since: {changed})" in error.value.found


def test_a_folder_in_the_way_of_the_model_is_seen_before_anything_is_trained(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "models/stage1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"models/stage1: there, but without training\.json"):
        make_plan(run, "stage1")
