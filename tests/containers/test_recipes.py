"""The container recipes fit this checkout, and where Apptainer is installed they build and pass their own test."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "containers").glob("*.def"))


def sections(recipe: Path) -> dict[str, str]:
    """Section name -> text; the heading's lines are under ''."""
    parts = re.split(r"^%(\w+)\n", recipe.read_text(encoding="utf-8"), flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_copies_what_exists_and_its_shell_parses(recipe: Path) -> None:
    parts = sections(recipe)
    assert re.search(r"^Bootstrap: docker\nFrom: \S+:\S+$", parts[""], re.M), "an image with a tag"
    assert "latest" not in parts[""]
    for line in parts["files"].split("\n"):
        if line.strip():
            source, target = line.split()
            assert (ROOT / source).exists(), source
            assert target.startswith("/opt/")
    for name in ("post", "runscript", "test", "environment"):
        subprocess.run(["sh", "-n"], input=parts[name], text=True, check=True)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_installs_extras_that_exist_and_nothing_without_versions(recipe: Path) -> None:
    [extras] = re.findall(r"pip install .*'\.\[([\w,]+)\]'", sections(recipe)["post"])
    declared = set(re.findall(r'^\s+"(\w+)": [A-Z]+,', (ROOT / "setup.py").read_text(encoding="utf-8"), re.M))
    assert set(extras.split(",")) <= declared
    assert "-c tools/constraints.txt" in sections(recipe)["post"]


def test_what_the_recipe_s_own_test_sends_is_answered(tmp_path: Path) -> None:
    """The %test section as it stands, with the codeio of this checkout."""
    script = sections(ROOT / "containers" / "exec.def")["test"]
    path = f"{ROOT}/.venv/bin:/usr/bin:/bin"
    subprocess.run(["sh", "-eu"], input=script, text=True, check=True, env={"PATH": path}, cwd=tmp_path, timeout=60)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("apptainer") is None, reason="Apptainer is not installed here")
def test_apptainer_builds_the_image(tmp_path: Path) -> None:
    image = tmp_path / "exec.sif"
    subprocess.run(["apptainer", "build", "--fakeroot", image, "containers/exec.def"], cwd=ROOT, check=True)
