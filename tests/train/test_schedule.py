"""Learning rates."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from codeio_hpc.config import parse
from codeio_hpc.config.recipe import StageRecipe, load_recipe
from codeio_hpc.errors import UserError
from codeio_hpc.train.schedule import learning_rate

RECIPES = Path(__file__).parents[2] / "configs" / "models"
TWO_STAGES = {  # stage 1, stage 2 from and to
    "qwen2.5-coder-7b": (1e-5, 3e-5, 1e-6),
    "llama-3.1-8b": (1e-5, 3e-5, 1e-6),
    "deepseek-coder-v2-lite": (1e-5, 3e-5, 1e-6),
    "gemma-2-27b": (4e-6, 1e-5, 3e-7),
}
WITH_RFT = [*TWO_STAGES, "llama-3.0-8b", "llama-3.0-70b", "llama-3.1-70b"]


def stage(**changes: object) -> StageRecipe:
    return StageRecipe.model_validate({"schedule": "cosine", "lr": 3e-5, "batch_size": 8, "steps": 700} | changes)


@pytest.mark.parametrize("name", TWO_STAGES)
def test_stage_1_has_the_papers_rate_at_all_its_3438_steps(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml").stage("stage1")
    assert [learning_rate(recipe, step, 3438) for step in range(3438)] == [TWO_STAGES[name][0]] * 3438


@pytest.mark.parametrize("name", TWO_STAGES)
def test_stage_2_has_the_papers_cosine_at_all_its_700_steps(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml").stage("stage2")
    _, highest, lowest = TWO_STAGES[name]
    rates = [learning_rate(recipe, step, 700) for step in range(701)]
    # half of 1 + cos x is the square of cos x/2
    formula = [lowest + (highest - lowest) * math.cos(math.pi * step / 1400) ** 2 for step in range(701)]
    assert rates == pytest.approx(formula, rel=1e-12)
    assert (rates[0], rates[700]) == (highest, lowest)
    assert rates == sorted(rates, reverse=True) and rates[699] > lowest


@pytest.mark.parametrize("name", WITH_RFT)
def test_rft_has_the_papers_warm_up_and_cosine_at_all_its_545_steps(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml").stage("rft")
    rates = [learning_rate(recipe, step, 545) for step in range(545)]
    rising = [2e-6 * time / 10 for time in range(1, 11)]
    falling = [2e-7 + 1.8e-6 * 0.5 * (1 + math.cos(math.pi * (time - 10) / 535)) for time in range(11, 546)]
    assert rates == pytest.approx(rising + falling, rel=1e-12)
    assert (rates[9], rates[544]) == (2e-6, 2e-7)
    assert rates.index(max(rates)) == 9 and rates.count(2e-6) == 1, "the highest rate has one step"


@pytest.mark.parametrize("warmup_steps", [0, 1, 10])
def test_the_cosine_never_rises_again(warmup_steps: int) -> None:
    cosine = stage(min_lr=1e-6, warmup_steps=warmup_steps)
    rates = [learning_rate(cosine, step, 700) for step in range(2000)]
    assert rates[warmup_steps:] == sorted(rates[warmup_steps:], reverse=True)
    assert set(rates[700:]) == {1e-6}


def test_a_constant_rate_is_constant_after_its_warm_up() -> None:
    assert {learning_rate(stage(schedule="constant"), step, 10) for step in range(30)} == {3e-5}
    rates = [learning_rate(stage(schedule="constant", warmup_steps=4), step, 10) for step in range(10)]
    assert rates == pytest.approx([0.75e-5, 1.5e-5, 2.25e-5] + [3e-5] * 7, rel=1e-12)
    assert set(rates[3:]) == {3e-5}


def test_the_shortest_trainings_have_rates_too() -> None:
    assert [learning_rate(stage(min_lr=1e-6), step, 1) for step in range(3)] == [3e-5, 1e-6, 1e-6]
    warm = stage(min_lr=1e-6, warmup_steps=1)
    assert [learning_rate(warm, step, 2) for step in range(3)] == [3e-5, 1e-6, 1e-6]
    assert [learning_rate(warm, step, 1) for step in range(3)] == [3e-5, 1e-6, 1e-6]


def test_rates_are_known_without_torch() -> None:
    code = (
        "import sys, codeio_hpc.train.schedule, codeio_hpc.config.facts, codeio_hpc.train.recipes; print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "numpy", "pyarrow"} & set(modules)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 1},
        {"steps": None},
        {"min_lr": 1.0},
        {"schedule": "constant", "min_lr": 1e-6},
        {"warmup_steps": 700},
    ],
)
def test_a_stage_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    data = {"schedule": "cosine", "lr": 3e-5, "batch_size": 8, "steps": 700} | changes
    with pytest.raises(UserError):
        parse(StageRecipe, data, "here")
