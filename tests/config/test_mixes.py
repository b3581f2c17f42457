"""configs/runs/training/ has every row of the paper's Table 4."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeio_hpc.config import RunConfig, load_yaml, parse

FOLDER = Path(__file__).parents[2] / "configs" / "runs" / "training"
CODE, INSTRUCTIONS = "code", "instructions"

TABLE_4 = {
    "instructions-only": {("stage1", INSTRUCTIONS, 1.0)},
    "single-stage-10": {("stage1", CODE, 0.1), ("stage1", INSTRUCTIONS, 1.0)},
    "single-stage": {("stage1", CODE, 1.0), ("stage1", INSTRUCTIONS, 1.0)},
    "two-stage": {("stage1", CODE, 1.0), ("stage2", INSTRUCTIONS, 1.0)},
    "two-stage-both": {("stage1", CODE, 1.0), ("stage1", INSTRUCTIONS, 1.0), ("stage2", INSTRUCTIONS, 1.0)},
    "two-stage-10": {("stage1", CODE, 1.0), ("stage2", CODE, 0.1), ("stage2", INSTRUCTIONS, 1.0)},
}
"""arXiv 2502.07316, Table 4: which share of what is trained in which stage."""


def read(path: Path) -> RunConfig:
    return parse(RunConfig, load_yaml(path), str(path))


@pytest.mark.parametrize("name", TABLE_4)
def test_each_row_of_the_table_is_a_configuration(name: str) -> None:
    found = {
        (source.training_stage or source.only, CODE if source.run else INSTRUCTIONS, source.weight)
        for source in read(FOLDER / f"{name}.yaml").samples
    }
    assert found == TABLE_4[name]


def test_every_file_of_the_folder_is_valid_and_named_as_its_run() -> None:
    paths = sorted(FOLDER.glob("*.yaml"))
    assert {path.stem for path in paths} == {*TABLE_4, "baselines"}
    for path in paths:
        config = read(path)
        assert config.name in (path.stem, "baseline") and config.recipe == "configs/models/qwen2.5-coder-7b.yaml"
