"""Run configurations for the verbs that need no file: of samples in files, and of the samples of other runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codeio_hpc.config import RunConfig, apply_overrides, parse
from codeio_hpc.launch.commands import checked

_SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)*=")


def import_config(words: Sequence[str], run: Path, recipe: Path | None, given: Mapping[str, Any]) -> RunConfig:
    """The configuration that takes the samples of some files in, in their order.

    Args:
        words: files, folders and patterns, and ``key=value`` for settings of the run.
        run: the run's folder; its name is the run's.
        given: settings that all these sources share; None where nothing was given.

    Raises:
        UserError: see :func:`codeio_hpc.config.parse`, :func:`codeio_hpc.launch.commands.checked`.
    """
    paths, settings = _told_apart(words)
    shared = {name: value for name, value in given.items() if value is not None}
    return _config([{"path": path, **shared} for path in paths], paths, run, recipe, settings)


def tokenize_config(words: Sequence[str], run: Path, recipe: Path) -> RunConfig:
    """The configuration that tokenises the samples of some runs for a recipe.

    Args:
        words: run folders, and ``key=value`` for settings of the new run.
        run: its folder.

    Raises:
        UserError: as :func:`import_config`.
    """
    paths, settings = _told_apart(words)
    return _config([{"run": path} for path in paths], paths, run, recipe, settings)


def _told_apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Paths and settings; a file that is there is no setting, whatever its name looks like."""
    settings = [word for word in words if _SETTING.match(word) and not os.path.exists(word)]
    return [word for word in words if word not in settings], settings


def _config(
    sources: list[dict[str, Any]], paths: Sequence[str], run: Path, recipe: Path | None, settings: Sequence[str]
) -> RunConfig:
    named = [{"name": name, **source} for name, source in zip(_names(paths), sources, strict=True)]
    data: dict[str, Any] = {"name": Path(os.path.abspath(run)).name, "samples": named}
    if recipe is not None:
        data["recipe"] = str(recipe)
    return checked(parse(RunConfig, apply_overrides(data, settings), f"run {run}"))


def _names(paths: Sequence[str]) -> list[str]:
    """A name for each, of its last part; those that come again get a number."""
    names: list[str] = []
    for path in paths:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(os.path.abspath(path)).partition(".")[0])
        name = plain.lstrip("._-") or "samples"
        again = sum(other == name or other.startswith(f"{name}-again") for other in names)
        names.append(f"{name}-again{again}" if again else name)
    return names
