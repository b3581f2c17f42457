"""docs/recipes.md shows what the recipes say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeio_hpc.cli import main
from codeio_hpc.config.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def recipes() -> list[Recipe]:
    return [load_recipe(path) for path in sorted((ROOT / "configs" / "models").glob("*.yaml"))]


def stage_rows(recipe: Recipe) -> Iterator[str]:
    for name in recipe.has:
        stage = recipe.stage(name)
        rate = f"{stage.schedule} {stage.lr:g}" + (f" to {stage.min_lr:g}" if stage.schedule == "cosine" else "")
        rate += f", {stage.warmup_steps} steps of warm-up" if stage.warmup_steps else ""
        length = f"{stage.steps} steps" if stage.steps else f"{stage.epochs} epoch"
        batch = f"{stage.batch_size:,} {stage.batch_unit}"
        yield f"| `{recipe.name}` | {name} | {rate} | {batch} | {recipe.length(name):,} | {length} |"


def model_row(recipe: Recipe) -> str:
    facts = recipe.facts
    assert facts is not None
    sizes = (facts.layers, facts.heads, facts.kv_heads, facts.hidden, facts.vocabulary, facts.context)
    numbers = " | ".join(f"{size:,}" for size in sizes)
    runs = f"{recipe.dtype.cuda} | {recipe.zero} | {recipe.attention}"
    return f"| `{recipe.name}` | {recipe.model} | {facts.architecture} | {numbers} | {runs} |"


def rows_under(heading: str) -> list[str]:
    section = re.split(r"^## ", PAGE, flags=re.M)[1:]
    [text] = [part for part in section if part.startswith(heading)]
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_the_page_lists_every_stage_of_every_recipe() -> None:
    assert rows_under("The stages") == [row for recipe in recipes() for row in stage_rows(recipe)]


def test_what_the_page_says_of_all_stages_is_true_of_all() -> None:
    assert "betas 0.9 and 0.95, no weight decay, gradients clipped to norm 1" in PAGE
    stages = [recipe.stage(name) for recipe in recipes() for name in recipe.has]
    assert {(stage.betas, stage.weight_decay, stage.clip) for stage in stages} == {((0.9, 0.95), 0.0, 1.0)}


def test_the_page_lists_the_facts_of_every_model() -> None:
    assert rows_under("The models") == [model_row(recipe) for recipe in recipes()]


def test_the_page_shows_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["recipe", "show", "llama-3.1-8b", "--stage", "rft"]) == 0
    assert f"```text\n{capsys.readouterr().out}```" in PAGE
