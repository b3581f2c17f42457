"""codeio recipe list, codeio recipe show."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from codeio_hpc.cli import main
from codeio_hpc.train.recipes import find_recipe, recipe_folders

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "configs" / "models"
PAPERS = sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem != "tiny")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without configs/, and no project's folder."""
    monkeypatch.delenv("CODEIO_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What the command prints as JSON."""
    assert main(["recipe", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it refuses."""
    assert main(["recipe", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 3
    return captured.err


@pytest.mark.parametrize("name", PAPERS)
def test_the_rate_of_a_step_is_the_papers(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for step, rate in ((0, 2e-7), (9, 2e-6), (544, 2e-7)):
        told = shown(capsys, "show", name, "--stage", "rft", "--step", str(step))
        assert told == {"recipe": name, "stage": "rft", "step": step, "total_steps": 545, "learning_rate": rate}
    middle = shown(capsys, "show", name, "--stage", "rft", "--step", "272")["learning_rate"]
    assert middle == pytest.approx(2e-7 + 0.9e-6 * (1 + math.cos(math.pi * 263 / 535)), rel=1e-12)


def test_the_rate_of_a_stage_by_epochs_is_told_where_it_does_not_depend_on_their_length(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(capsys, "show", "gemma-2-27b", "--stage", "stage1", "--step", "3437")["learning_rate"] == 4e-6
    assert "begin with 0" in refused(capsys, "show", "gemma-2-27b", "--stage", "stage1", "--step", "-1")
    text = (RECIPES / "qwen2.5-coder-7b.yaml").read_text(encoding="utf-8").replace("steps: 700", "epochs: 3")
    (elsewhere / "mine.yaml").write_text(text, encoding="utf-8")
    command = ["show", "mine.yaml", "--stage", "stage2", "--step", "350"]
    assert "--total-steps" in refused(capsys, *command)
    assert shown(capsys, *command, "--total-steps", "700")["learning_rate"] == pytest.approx(1.55e-5, rel=1e-12)
    assert "end with 99" in refused(capsys, *command, "--total-steps", "100")
    assert shown(capsys, *command[:-2])["learning_rates"] == []


@pytest.mark.parametrize("step", ["-1", "545", str(10**30)])
def test_a_step_that_there_is_not_is_refused(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "begin with 0 and end with 544" in refused(
        capsys, "show", "llama-3.0-8b", "--stage", "rft", "--step", step, "--json"
    )


def test_another_number_of_steps_than_the_recipes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["show", "llama-3.0-8b", "--stage", "rft", "--total-steps"]
    assert "rft has 545" in refused(capsys, *command, "100")
    assert "at least one" in refused(capsys, *command, "0")
    assert shown(capsys, *command, "545")["total_steps"] == 545


def test_everything_that_a_recipe_says_of_a_stage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(capsys, "show", "gemma-2-27b", "--stage", "rft")
    assert (told["recipe"], told["stage"], told["model"]) == ("gemma-2-27b", "rft", "google/gemma-2-27b")
    assert (told["attention"], told["dtype"]["cuda"], told["zero"]) == ("eager", "bfloat16", 2)
    assert told["facts"]["architecture"] == "Gemma2ForCausalLM"
    assert (told["sequence_length"], told["total_steps"]) == (8192, 545)
    assert told["settings"]["betas"] == [0.9, 0.95] and told["settings"]["keep_every"] is None
    assert [each["step"] for each in told["learning_rates"]] == [0, 9, 136, 272, 408, 544]
    assert told["learning_rates"][1]["learning_rate"] == 2e-6


def test_what_people_see(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "show", "llama-3.1-8b", "--stage", "stage1"]) == 0
    text = capsys.readouterr().out
    assert "3,438 steps for the paper's 3.52 M samples" in text
    assert "1,024 samples, packed into sequences of at most 4,096 tokens" in text
    assert main(["recipe", "show", "llama-3.1-8b", "--stage", "rft"]) == 0
    text = capsys.readouterr().out
    assert "64 sequences of at most 8,192 tokens" in text
    assert "34,880 sequences, at most 285,736,960 tokens" in text
    [curve] = [line.strip() for line in text.splitlines() if "█" in line]
    assert len(curve) == 60 and curve[0] == curve[-1] == "▁"
    assert main(["recipe", "show", "llama-3.1-8b", "--stage", "rft", "--step", "544"]) == 0
    assert capsys.readouterr().out == "2e-07\n"
    for line in text.splitlines():
        assert len(line) <= 150


def test_the_list_names_every_recipe_with_its_stages(capsys: pytest.CaptureFixture[str]) -> None:
    told = {each["name"]: each["stages"] for each in shown(capsys, "list")["recipes"]}
    assert sorted(told) == sorted([*PAPERS, "tiny"])
    assert told["llama-3.0-70b"] == ["rft"] and told["gemma-2-27b"] == ["stage1", "stage2", "rft"]
    assert main(["recipe", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(told)


def test_a_recipe_or_stage_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "show", "lama", "--stage", "rft")
    assert "known recipes: deepseek-coder-v2-lite, gemma-2-27b" in message and str(RECIPES) in message
    assert "it is for rft" in refused(capsys, "show", "llama-3.0-8b", "--stage", "stage1")
    assert "no such file" in refused(capsys, "show", "there/lama.yaml", "--stage", "rft")


def test_a_recipe_is_found_here_then_in_the_projects_folder_then_beside_the_package(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_recipe("tiny") == RECIPES / "tiny.yaml"
    home = elsewhere / "home"
    for folder in (home, elsewhere):
        (folder / "configs" / "models").mkdir(parents=True)
        shutil.copy(RECIPES / "tiny.yaml", folder / "configs" / "models" / "tiny.yaml")
    monkeypatch.setenv("CODEIO_HOME", str(home))
    assert find_recipe("tiny") == Path("configs/models/tiny.yaml")
    Path("configs/models/tiny.yaml").unlink()
    assert find_recipe("tiny") == home / "configs" / "models" / "tiny.yaml"
    assert find_recipe("configs/models/tiny.yaml") == home / "configs" / "models" / "tiny.yaml"
    assert find_recipe("llama-3.1-8b") == RECIPES / "llama-3.1-8b.yaml"


def test_an_installation_brings_the_recipes(elsewhere: Path) -> None:
    """By setup.py's list of files: where they are looked for, with the tiny model's folder."""
    code = (
        "import json, setuptools; "
        "setuptools.setup = lambda **options: print(json.dumps(dict(options['data_files']))); import setup"
    )
    command = [sys.executable, "-B", "-c", code]
    listed = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    brought = {name for files in listed.values() for name in files}
    assert {f"configs/models/{name}.yaml" for name in [*PAPERS, "tiny"]} <= brought
    assert {f"configs/models/tiny/{path.name}" for path in (RECIPES / "tiny").iterdir()} <= brought
    assert recipe_folders()[-1] == Path(sys.prefix) / "share/codeio-hpc/configs/models"
    assert "share/codeio-hpc/configs/models" in listed


def test_without_a_stage_all_of_them_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "show", "tiny"]) == 0
    shown = capsys.readouterr().out
    for stage in ("stage1", "stage2", "rft"):
        assert main(["recipe", "show", "tiny", "--stage", stage]) == 0
        assert capsys.readouterr().out in f"{shown}\n"
    assert main(["recipe", "show", "tiny", "--step", "3"]) == 2
    assert "--stage" in capsys.readouterr().err


def test_a_recipe_is_held_against_the_model_beside_it(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(RECIPES / "tiny", elsewhere / "tiny")
    recipe = yaml.safe_load((RECIPES / "tiny.yaml").read_text(encoding="utf-8"))
    del recipe["facts"]
    path = elsewhere / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert shown(capsys, "show", "mine.yaml", "--stage", "stage1")["sequence_length"] == recipe["sequence_length"]
    path.write_text(yaml.safe_dump(recipe | {"sequence_length": 4096}), encoding="utf-8")
    assert "the model has 1024 positions" in refused(capsys, "show", "mine.yaml")


def test_people_see_what_else_a_stage_is_given(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = yaml.safe_load((RECIPES / "tiny.yaml").read_text(encoding="utf-8"))
    recipe |= {"hang_minutes": 7, "spike": {"action": "stop", "patience": 3}}
    recipe["stages"]["stage1"] |= {"micro_batch": 3, "validation_fraction": 0.05, "order": "curriculum"}
    (elsewhere / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert main(["recipe", "show", "mine.yaml", "--stage", "stage1"]) == 0
    text = capsys.readouterr().out
    assert "tokens, curriculum\n" in text and "3 sequences of each rank\n" in text
    assert "0.05 of the sequences, never trained, at every checkpoint\n" in text
    assert "7 minutes without progress: end; spikes (2 times the highest of 50 steps): stop, at 3 in a row\n" in text
