"""What stages take and give for each row: measured on a run, or as the project measured them once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codeio_hpc.config.run import RunConfig, Source
from codeio_hpc.errors import UserError
from codeio_hpc.launch.attempts import StageTotals, read_attempts
from codeio_hpc.launch.plan import Look, places
from codeio_hpc.launch.run import SOURCES_STAGE, Run
from codeio_hpc.stages.base import GatherStage
from codeio_hpc.tables.index import Made, names_in


@dataclass(frozen=True)
class StageFigures:
    """Of one stage, for each row of its input."""

    seconds: float
    """Wall time of a task."""
    rows: float
    """Of its output."""
    bytes: float = 0.0
    """Of everything in its folder."""
    files: float = 1.0
    """In its folder, for each shard: the rows, often the rejected ones, and journals and sketches where it has any."""


@dataclass(frozen=True)
class Measured:
    """Figures of all stages, by the names under which attempts record them: a gather stage's sketches are
    ``NAME-sketch``."""

    source: str
    """Where they are from, for people."""
    stages: Mapping[str, StageFigures]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Configuration of the run that they were measured on, as :meth:`RunConfig.identity` has it."""

    def of(self, stage: str) -> StageFigures:
        """Those of a stage; the project's own where it was not in the run."""
        return self.stages.get(stage) or DEFAULTS.stages[stage]


def measure(run: Run) -> Measured:
    """The figures of a run that is complete.

    Raises:
        UserError: a stage has no rows, or no attempt tells what it took.
    """
    totals: dict[str, StageTotals] = defaultdict(StageTotals)
    for attempt in read_attempts(run.folder):
        for stage, more in attempt.stages.items():
            totals[stage].add(more)
    look = Look(run)
    rows_in = _rows(look.sources())
    stages = {SOURCES_STAGE: StageFigures(0.0, 1.0, _bytes(run.stages / SOURCES_STAGE) / max(rows_in, 1))}
    for place in places(run):
        name, folder = place.stage.name, place.folder
        rows_out = _rows(look.made(place))
        names = [name, f"{name}-sketch"] if isinstance(place.stage, GatherStage) else [name]
        if not rows_out or any(not totals[each].rows_in for each in names):
            raise UserError(
                f"{run.folder}: stage {name} has {rows_out:,} rows, and {totals[name].rows_out:,} in attempt records",
                "what it takes and gives cannot be told from that",
                "name a run that was built to its end and kept its attempt records",
            )
        for each in names:
            stages[each] = StageFigures(totals[each].seconds / totals[each].rows_in, 1.0)
        files = len(names_in(folder) - {"decision.json"})
        seconds = stages[name].seconds
        stages[name] = StageFigures(seconds, rows_out / rows_in, _bytes(folder) / rows_in, files / run.shards)
        rows_in = rows_out
    return Measured(f"run {run.folder}", stages, run.config.identity())


def _rows(made: Mapping[int, Made]) -> int:
    return sum(rows for _, _, rows in made.values())


def _bytes(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in names_in(folder))


DEFAULTS = Measured(
    "the project's own figures (docs/planning.md)",
    {
        "00-sources": StageFigures(0, 1, 70.69, 1),
        "collect": StageFigures(0.00113, 0.9311, 4473, 2.89),
        "collect-sketch": StageFigures(0.0113, 1, 0, 1),
        "transform": StageFigures(0.135, 1.285, 904.1, 2),
        "split": StageFigures(0.000442, 1, 1116, 2),
        "split-sketch": StageFigures(0.00144, 1, 0, 1),
        "sample": StageFigures(0.0669, 7.9, 729.4, 1.94),
        "pose": StageFigures(0.000292, 1.91, 141.5, 1),
        "answer": StageFigures(0.00788, 0.8533, 554.1, 2.89),
        "verify": StageFigures(0.00232, 1, 145.5, 1),
        "revise": StageFigures(0.000172, 1, 159.5, 2),
        "decontaminate": StageFigures(0.000288, 1, 159.5, 1),
        "assemble": StageFigures(0.000129, 1, 112.2, 1),
        "tokenise": StageFigures(0.00274, 0.4991, 140.4, 1.94),
        "import": StageFigures(0.0002, 1, 680, 2.5),
        "import-sketch": StageFigures(0.00011, 1, 0, 1),
    },
    RunConfig(name="default", sources=(Source(name="stdlib", stdlib=True),)).identity(),
)
"""Measured on 1,089 files of the standard library and four packages with the default settings and the tracer, by one
worker (docs/planning.md); ``decontaminate`` as `tools/bench/growth.py` measured it (docs/performance.md), ``import`` on
20,000 chats of 3,100 bytes."""
