"""Assembling the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from codeio_hpc.config import settings_hash
from codeio_hpc.config.recipe import TRAINING_STAGES
from codeio_hpc.launch.run import open_run
from codeio_hpc.report.facts import (
    evaluation,
    funnel,
    never_evaluated,
    rejected_examples,
    rejections,
    samples,
    stage_times,
)
from codeio_hpc.report.statistics import contamination, coverage, stages_with_samples, statistics
from codeio_hpc.report.training import training
from codeio_hpc.tables.files import publish_file

_HERE = Path(__file__).parent


def write_page(folder: Path) -> Path:
    """Render the run's page."""
    run = open_run(folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["script_json"] = script_json
    text = environment.get_template("page.html").render(
        run=run,
        folder=_as_typed(run.folder),
        identity=settings_hash(run.config.identity()),
        funnel=funnel(run),
        rejections=rejections(run),
        times=stage_times(run),
        trainings={name: found for name in TRAINING_STAGES if (found := training(run, name))},
        evaluation=evaluation(run),
        never_evaluated=never_evaluated(replace(run, folder=_as_typed(run.folder))),
        rows={"samples": samples(run), "rejected": rejected_examples(run), "run": str(_as_typed(run.folder))},
        datasets=[{"stage": name, **statistics(run, name)} for name in stages_with_samples(run)],
        coverage=coverage(run),
        contamination=contamination(run),
    )
    path = run.folder / "report" / "index.html"
    publish_file(path, text.encode("utf-8"))
    return path


def _as_typed(folder: Path) -> Path:
    """The folder as one would type it here."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def script_json(data: Any) -> Markup:
    """JSON for a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(data, ensure_ascii=True)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)
