"""docs/training-plan.md shows what the planner says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from codeio_hpc.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training-plan.md").read_text(encoding="utf-8")


def test_tables_and_plot_are_the_planners(tmp_path: Path) -> None:
    drawn = tmp_path / "plan.svg"
    command = [sys.executable, str(ROOT / "tools" / "bench" / "training_plan.py"), "--plot", str(drawn)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed.count("| `") == 32
    assert printed in PAGE
    assert drawn.read_bytes() == (ROOT / "docs" / "training-plan.svg").read_bytes()


def test_the_plan_that_is_shown_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = PAGE.partition("```console\n$ codeio ")[2].partition("\n")[0]
    assert main(shown.split()) == 0
    assert f"```text\n{capsys.readouterr().out}```" in PAGE
