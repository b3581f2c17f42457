"""docs/recipes.md lists every key of a recipe, with its default, and says which may be changed between starts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from codeio_hpc.cli import main
from codeio_hpc.config.recipe import (
    DTypes,
    LossScale,
    ModelFacts,
    Recipe,
    SpikeSettings,
    StageRecipe,
    TelemetrySettings,
)
from codeio_hpc.train.plan import make_plan
from tests.train.tiny_run import make_run

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[BaseModel]] = {
    "facts": ModelFacts,
    "dtype": DTypes,
    "loss_scale": LossScale,
    "spike": SpikeSettings,
    "telemetry": TelemetrySettings,
    "stages": StageRecipe,
}
"""Keys that hold others; a new one fails the test by its default."""
OTHER = {
    "name": "other",
    "hang_minutes": 3.0,
    "telemetry": {"wandb": "p"},
    "spike": {"factor": 5.0, "window": 9, "action": "stop", "patience": 1},
}
OTHER_OF_STAGE = {"save_minutes": 1.0, "save_every": 9, "keep": 9, "keep_every": 2}


def keys(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, str]]:
    """Every key and its default, as the page writes them."""
    for name, field in model.model_fields.items():
        if name in SECTIONS:
            yield from keys(SECTIONS[name], f"{before}{name}." if name != "stages" else "stages.STAGE.")
        else:
            yield f"{before}{name}", "–" if field.is_required() else _text(field.default)


def _text(default: object) -> str:
    if isinstance(default, tuple):
        return ", ".join(map(str, default))
    return json.dumps(default) if default is None or isinstance(default, bool) else str(default)


def listed() -> Iterator[tuple[str, str, str]]:
    """Key, default and last column of each row; some rows have several keys."""
    [table] = re.findall(r"^\| key \| default .*?\n((?:\|.*\n)+)", PAGE, re.M)
    for row in table.splitlines()[1:]:
        names, default, _, change = (cell.strip() for cell in row.strip("|").split(" | "))
        found = re.findall(r"`([\w.]+)`", names)
        defaults = default.split(", ") if len(found) > 1 and ", " in default else [default] * len(found)
        yield from zip(found, defaults, [change] * len(found), strict=True)


def test_the_page_has_every_key_with_its_default() -> None:
    assert sorted((key, default) for key, default, _ in listed()) == sorted(keys(Recipe))


def test_what_the_page_calls_free_does_not_make_another_training_and_lr_does(tmp_path: Path) -> None:
    free = {key for key, _, change in listed() if change == "free"}
    nested = {f"{key}.{name}" for key, value in OTHER.items() if isinstance(value, dict) for name in value}
    plain = {key for key, value in OTHER.items() if not isinstance(value, dict)}
    assert free == nested | plain | {f"stages.STAGE.{name}" for name in OTHER_OF_STAGE}
    run, path = make_run(tmp_path), tmp_path / "recipe.yaml"
    identity = make_plan(run, "stage1").identity
    recipe = yaml.safe_load(path.read_text(encoding="utf-8")) | OTHER
    recipe["stages"]["stage1"] |= OTHER_OF_STAGE
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert make_plan(run, "stage1").identity == identity
    recipe["stages"]["stage1"]["lr"] = 1.0
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert make_plan(run, "stage1").identity != identity


def test_the_page_s_own_recipe_is_a_whole_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert main(["recipe", "show", str(tmp_path / "mine.yaml")]) == 0
    assert "mine, stage2" in capsys.readouterr().out
