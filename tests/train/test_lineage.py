"""From a sample to the steps that trained it, and back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from codeio_hpc.cli import main
from codeio_hpc.config.recipe import load_recipe
from codeio_hpc.errors import UserError
from codeio_hpc.launch.run import open_run
from codeio_hpc.report.rows import show_text
from codeio_hpc.train.data import data_fingerprint, open_corpus, order_of, write_corpus
from codeio_hpc.train.lineage import batch_of, batch_text, trained_at
from tests.train.tiny_run import make_run, sequence


def begin(run: Path, stage: str = "stage1") -> Path:
    """Lay the data of a stage down, as its training does first."""
    opened = open_run(run)
    return write_corpus(run, stage, data_fingerprint(run, opened.shards, opened.config))


def write_metrics(run: Path, stage: str, *steps: int) -> None:
    """As a training that has done these steps, and was killed while it wrote the next one down."""
    lines = []
    for step in steps:
        batch = batch_of(run, step, stage)
        counts = {name: batch[name] for name in ("total_steps", "samples", "tokens")}
        lines.append(json.dumps({"step": step, "loss": 7.0 - step, "lr": 3e-3, **counts}))
    (run / "train" / stage / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 9']), encoding="utf-8")


def test_every_sequence_is_trained_where_it_is_said_to_be(tmp_path: Path) -> None:
    """Held against the batches themselves, over several epochs, with some kept for validation."""
    run = make_run(tmp_path, 20, stage=", validation_fraction: 0.2")
    assert trained_at(run, "stage1", "qstage13") is None, "before it has begun"
    corpus = open_corpus(begin(run))
    order = order_of(corpus, load_recipe(tmp_path / "recipe.yaml").stage("stage1"), 3)
    batches = [order.batch(step).tolist() for step in range(20)]
    for number in range(16):
        told = trained_at(run, "stage1", sequence(number, "stage1")["sequence_id"])
        assert told is not None
        assert told["steps"] == [step + 1 for step, batch in enumerate(batches) if number in batch]
        assert told["validation"] == (number in order.validated.tolist()) == (not told["steps"])
        assert told["done"] == 0


@pytest.mark.parametrize(("stage", "steps"), [("stage1", 20), ("stage2", 6)])
def test_what_a_step_trains_is_trained_at_that_step_and_nothing_else_is(tmp_path: Path, stage: str, steps: int) -> None:
    """A whole training, in either unit of the batch, seen from its steps and from its sequences."""
    run = make_run(tmp_path, 20, stage=", validation_fraction: 0.2")
    begin(run, stage)
    rows = {row["sequence_id"]: row for row in (sequence(number, stage) for number in range(16))}
    seen: dict[str, list[int]] = defaultdict(list)
    for step in range(1, steps + 1):
        batch = batch_of(run, step, stage)
        assert (batch["stage"], batch["step"], batch["total_steps"]) == (stage, step, steps)
        for each in batch["sequences"]:
            seen[each["sequence_id"]].append(step)
            row = rows[each["sequence_id"]]
            assert (each["tokens"], each["sample_ids"]) == (len(row["input_ids"]), row["sample_ids"])
        assert batch["samples"] == sum(len(each["sample_ids"]) for each in batch["sequences"])
        assert batch["tokens"] == sum(each["tokens"] for each in batch["sequences"])
    for sequence_id in rows:
        told = trained_at(run, stage, sequence_id)
        assert told is not None and told["steps"] == seen[sequence_id]


def test_another_training_stage_counts_for_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path, 20)
    begin(run, "stage2")
    told = trained_at(run, "stage2", "qstage29")
    assert told is not None and told["stage"] == "stage2" and 1 <= len(told["steps"]) <= 6
    assert trained_at(run, "stage2", "qstage19") is None
    assert batch_of(run, 1, None)["stage"] == "stage2", "the only one that was begun"


def test_the_data_of_another_tokenizer_do_not_count(tmp_path: Path) -> None:
    """Both ways follow the shards that are there, whatever other data were trained on in this folder before."""
    run = make_run(tmp_path, 20)
    before = begin(run)
    told = trained_at(run, "stage1", "qstage13"), batch_of(run, 3, "stage1")
    for name in ("data-0000000000000000", "data-ffffffffffffffff"):
        shutil.copytree(begin(run, "stage2"), before.with_name(name))
    assert (trained_at(run, "stage1", "qstage13"), batch_of(run, 3, "stage1")) == told
    shutil.rmtree(before)
    assert trained_at(run, "stage1", "qstage13") is None
    with pytest.raises(UserError, match="no training of stage1 was begun with the data that are there now"):
        batch_of(run, 3, "stage1")


def test_a_step_has_its_loss_and_rate_once_it_is_done(tmp_path: Path) -> None:
    run = make_run(tmp_path, 20)
    begin(run)
    write_metrics(run, "stage1", 1, 2)
    done, later = batch_of(run, 2, None), batch_of(run, 9, None)
    assert (done["loss"], done["lr"]) == (5.0, 3e-3) and later["loss"] is later["lr"] is None
    assert batch_text(done).startswith("stage1: step 2 of 20 (loss 5.0000, lr 0.003)\n")
    assert batch_text(later).startswith("stage1: step 9 of 20 (to come)\n")


def test_the_text_has_a_line_for_each_sequence_and_sample(tmp_path: Path) -> None:
    run = make_run(tmp_path, 20)
    begin(run)
    batch = batch_of(run, 5, None)
    _, counts, *lines = batch_text(batch).splitlines()
    assert counts == f"{batch['samples']} samples in {len(batch['sequences'])} sequences, {batch['tokens']} tokens:"
    wanted = []
    for each in batch["sequences"]:
        wanted += [f"{each['sequence_id']}  {each['tokens']} tokens", *(f"  {sample}" for sample in each["sample_ids"])]
    assert lines == wanted


def test_a_recipe_that_was_changed_behind_the_training_is_refused(tmp_path: Path) -> None:
    """Its order is another one: what it says of a step was not trained at it."""
    run = make_run(tmp_path, 20)
    begin(run)
    write_metrics(run, "stage1", 1, 2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe.read_text("utf-8").replace("batch_size: 10", "batch_size: 20"), encoding="utf-8")
    with pytest.raises(UserError, match=r"step 2 of stage1 was trained by another recipe: samples was \d+, is now \d+"):
        batch_of(run, 2, None)


def test_what_is_no_step_of_a_training_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, 20, stages=("stage1", "stage2"))
    with pytest.raises(UserError, match="no training was begun"):
        batch_of(run, 1, None)
    with pytest.raises(UserError, match="no training of stage2 was begun"):
        batch_of(run, 1, "stage2")
    with pytest.raises(UserError, match=r"no samples of rft, but \d+ of stage1 and \d+ of stage2"):
        batch_of(run, 1, "rft")
    begin(run)
    for step in (0, -1, 21):
        with pytest.raises(UserError, match=f"--step {step}\n  why: stage1 has 20 steps"):
            batch_of(run, step, None)
    assert batch_of(run, 20, None)["sequences"]
    begin(run, "stage2")
    with pytest.raises(UserError, match=r"stage1 and stage2\n.*\n.*--stage stage1 or --stage stage2"):
        batch_of(run, 1, None)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe.read_text("utf-8").partition("  rft:")[0], encoding="utf-8")
    with pytest.raises(UserError, match="has no rft"):
        batch_of(run, 1, "rft")
    with pytest.raises(UserError, match=r"no run\.json"):
        batch_of(tmp_path, 1, None)


def test_the_command_line_tells_a_step_without_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path, 20)
    begin(run)
    program = (
        "import sys\nfrom codeio_hpc.cli import main\n"
        f"assert main(['show', {str(run)!r}, '--step', '5', '--json']) == 0\n"
        "assert not {'torch', 'transformers', 'deepspeed'} & set(sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == batch_of(run, 5, "stage1")


@pytest.mark.parametrize(
    "words",
    [
        *(["RUN", "q1", "--step", "5"], ["RUN", "--step", "5", "q1"], [], ["RUN", "--step", "five"]),
        *(["RUN", "--step", "5", "--stage", "stage3"], ["q1", "--stage", "stage1"]),
    ],
)
def test_the_usage_that_is_shown_is_that_of_the_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["show", *words])
    assert caught.value.code == 2
    usage = capsys.readouterr().err
    assert usage.startswith("usage: codeio show [-h] ") and "[RUN] ID\n" in usage and "[RUN] --step K" in usage


def test_a_step_that_is_not_there_is_a_user_s_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, 20)
    begin(run)
    assert main(["show", str(run), "--step", "0"]) == 2
    assert capsys.readouterr().err.startswith("codeio: --step 0\n  why: ")


def test_it_is_told_in_words_before_everything_else() -> None:
    shown = {"id": "x", "rows": [], "rejected": None, "made": [], "candidates": [], "of_run": {"run": "r", "id": "c"}}
    told = {"stage": "stage1", "steps": [3, 1200], "done": 10, "validation": False}
    kept = {"stage": "stage2", "steps": [], "done": 10, "validation": True}
    lines = show_text({**shown, "trained": [told, kept]}).splitlines()
    assert lines[:3] == [
        "x: kept",
        "stage1: trained at step 3, 1,200 (to come)",
        "stage2: never trained, kept for validation",
    ]
    assert len(lines) == 4
