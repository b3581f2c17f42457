#!/usr/bin/env python3
"""Finds what is wrong with an Apptainer recipe before a build of some minutes does, and what a build never says.

    tools/lint_def.py containers/*.def

It prints PATH:LINE: what is wrong, and what to write instead; exit code 2 if there is anything. Files of %files are
looked for where builds are started: in the current folder, or --root. Sections, headers and their rules are those of
Apptainer 1.4 (pkg/build/types/parser/deffile.go). Scripts go through shellcheck, with the defaults of the build
arguments in their places.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from def_lint.checks import (
    check_arguments,
    check_completeness,
    check_files,
    check_headers,
    check_removals,
    check_shell,
)
from def_lint.downloads import check_downloads
from def_lint.recipe import SCRIPTS, Problem, read_stages


def lint(text: str, root: Path) -> list[Problem]:
    """Everything that is wrong with a recipe whose builds are started in ``root``."""
    problems: list[Problem] = []
    stages = list(read_stages(text.splitlines(), problems))
    if not stages:
        return [Problem(1, "nothing is in it; a recipe begins with Bootstrap: and From:")]
    for stage in stages:
        problems += check_headers(stage)
        problems += check_arguments(stage)
        for section in stage.named("files"):
            problems += check_files(section, stage, stages, root)
        for section in stage.sections:
            if section.name in SCRIPTS:
                problems += check_shell(section, stage)
                problems += check_downloads(section, stage)
                problems += check_removals(section, stage)
    problems += check_completeness(stages[-1])
    return sorted(set(problems))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is wrong; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE")
    parser.add_argument("--root", type=Path, default=Path(), help="where builds are started (default: here)")
    options = parser.parse_args(arguments)
    wrong = 0
    for path in options.recipes:
        try:
            problems = lint(path.read_text(encoding="utf-8"), options.root)
        except (OSError, UnicodeDecodeError) as error:
            problems = [Problem(1, f"cannot be read: {error}")]
        for line, text in problems:
            print(f"{path}:{line}: {text}")
        wrong += len(problems)
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
