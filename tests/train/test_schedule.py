"""Learning rates."""

from __future__ import annotations

import math

import pytest

from codeio_hpc.config import parse
from codeio_hpc.config.recipe import StageRecipe
from codeio_hpc.errors import UserError
from codeio_hpc.train.schedule import learning_rate


def stage(**changes: object) -> StageRecipe:
    return StageRecipe.model_validate({"schedule": "cosine", "lr": 3e-5, "batch_size": 8, "steps": 700} | changes)


def test_the_papers_cosine_goes_from_3e_5_to_1e_6_in_700_steps() -> None:
    paper = stage(min_lr=1e-6)
    assert learning_rate(paper, 0, 700) == 3e-5
    assert learning_rate(paper, 350, 700) == pytest.approx(1.55e-5, rel=1e-12)
    assert learning_rate(paper, 175, 700) == pytest.approx(1e-6 + 2.9e-5 * 0.5 * (1 + math.sqrt(0.5)), rel=1e-12)
    assert learning_rate(paper, 699, 700) == pytest.approx(1.000146e-6, rel=1e-5)
    assert learning_rate(paper, 700, 700) == pytest.approx(1e-6, rel=1e-12)


def test_the_cosine_never_rises_again() -> None:
    rates = [learning_rate(stage(min_lr=1e-6), step, 700) for step in range(2000)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1e-6)


def test_a_constant_rate_is_constant() -> None:
    assert {learning_rate(stage(schedule="constant"), step, 10) for step in range(30)} == {3e-5}


def test_warm_up_trains_from_its_first_step() -> None:
    warm = stage(warmup_steps=10, min_lr=1e-6)
    assert learning_rate(warm, 0, 700) == pytest.approx(3e-6)
    assert learning_rate(warm, 9, 700) == pytest.approx(3e-5)
    assert learning_rate(warm, 10, 700) == pytest.approx(3e-5)


@pytest.mark.parametrize(
    "changes", [{"epochs": 1}, {"steps": None}, {"min_lr": 1.0}, {"schedule": "constant", "min_lr": 1e-6}]
)
def test_a_stage_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    data = {"schedule": "cosine", "lr": 3e-5, "batch_size": 8, "steps": 700} | changes
    with pytest.raises(UserError):
        parse(StageRecipe, data, "here")
