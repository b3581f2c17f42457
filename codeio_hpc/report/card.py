"""The dataset card: what is in a dataset, where it comes from, and what it is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jinja2

from codeio_hpc import __version__
from codeio_hpc.config import settings_hash
from codeio_hpc.config.run import Source
from codeio_hpc.config.samples import SampleSource
from codeio_hpc.launch.run import open_run
from codeio_hpc.report.facts import funnel, rejections
from codeio_hpc.report.statistics import contamination, coverage, statistics
from codeio_hpc.tables.schemas import SAMPLES

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def write_card(folder: Path, training_stage: str) -> str:
    """The card of a run's samples as Markdown, with the metadata that the Hugging Face hub reads.

    Raises:
        UserError: the folder holds no run.
    """
    run = open_run(folder)
    sources: tuple[Source | SampleSource, ...] = (*run.config.sources, *run.config.samples)
    facts = statistics(run, training_stage)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["counts"] = _counts
    return environment.get_template("card.md").render(
        run=run,
        training_stage=training_stage,
        facts=facts,
        size=next((name for limit, name in _SIZES if facts["samples"] < limit), "n>10M"),
        version=__version__,
        identity=settings_hash(run.config.identity()),
        licences={source.name: source.licence for source in sources},
        funnel=funnel(run),
        rejections=rejections(run),
        coverage=coverage(run),
        contamination=contamination(run),
        columns=SAMPLES.schema.names,
    )


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in values.items()) or "none"
