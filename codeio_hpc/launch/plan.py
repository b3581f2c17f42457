"""What has to be done in a run: steps, their shards, and which of them are missing.

Consecutive map stages form one step: a task takes a shard through all of them, so a build needs one array job a step
instead of one a stage. The only barrier is a gather stage's decision: before it, a step of sketches; after it, the
stage's ``apply`` opens the next step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from codeio_hpc.config import settings_hash
from codeio_hpc.launch.run import SOURCES_STAGE, Run
from codeio_hpc.stages.base import GatherStage, Stage
from codeio_hpc.tables import Identity
from codeio_hpc.tables.files import publish_file
from codeio_hpc.tables.shards import is_valid, part_path, read_footer


@dataclass(frozen=True)
class Place:
    """One stage at its place in a run."""

    run: Run
    stage: Stage
    folder: Path
    input_folder: Path
    _decision: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The decision once it was found valid: its inputs are frozen with the run, so it stays so."""

    @property
    def settings(self) -> str:
        """Hash of what shapes this stage's rows, beside its input."""
        return settings_hash([self.run.config.seed, self.stage.name, dict(self.stage.settings(self.run.config))])

    @property
    def parent(self) -> str:
        """Column of the output rows that names the input row (or rows) they come from; their own id, where the stage
        hands on rows of the table that it takes."""
        same = self.stage.output is self.stage.input
        column = self.stage.input.id if same else self.stage.output.parent
        assert column is not None, "every table but the list of sources has parents"
        return column

    def input_checksum(self, shard: int) -> str | None:
        """Checksum of the input shard (and of the decision of a gather stage); None while it is not there."""
        footer = read_footer(part_path(self.input_folder, shard))
        if footer is None:
            return None
        if isinstance(self.stage, GatherStage):
            decision = self.read_decision()
            return None if decision is None else settings_hash([footer.checksum, decision["checksum"]])
        return footer.checksum

    def identity(self, shard: int) -> Identity | None:
        """What a valid shard of this stage must be; None while its input is not there."""
        checksum = self.input_checksum(shard)
        if checksum is None:
            return None
        stage = self.stage
        return Identity(stage.output, stage.name, stage.version, self.settings, checksum, shard)

    def is_done(self, shard: int) -> bool:
        """Whether the stage's shard is published and made from what is there now."""
        identity = self.identity(shard)
        return identity is not None and is_valid(self.folder, identity)

    def sketch_path(self, shard: int) -> Path:
        """Where a gather stage keeps the sketch of a shard."""
        return self.folder / f"sketch-{shard:05d}.json"

    def read_sketch(self, shard: int) -> dict[str, Any] | None:
        """A valid sketch: {"input", "settings", "version", "data"}; None if there is none."""
        footer = read_footer(part_path(self.input_folder, shard))
        sketch = _read_json(self.sketch_path(shard))
        if footer is None or sketch is None:
            return None
        return sketch if self._fits(sketch, footer.checksum) else None

    def write_sketch(self, shard: int, input_checksum: str, data: Any) -> None:
        """Publish the sketch of a shard."""
        self._publish(self.sketch_path(shard), input_checksum, data)

    def read_decision(self) -> dict[str, Any] | None:
        """The decision of a gather stage, if it was made from the sketches of all shards."""
        if not self._decision:
            decision = _read_json(self.folder / "decision.json")
            if decision is None or not self._fits(decision, self._all_inputs()):
                return None
            self._decision.update(decision)
        return self._decision

    def write_decision(self, data: Any) -> None:
        """Publish the decision."""
        self._publish(self.folder / "decision.json", self._all_inputs(), data)

    def _all_inputs(self) -> str:
        footers = (read_footer(part_path(self.input_folder, shard)) for shard in range(self.run.shards))
        return settings_hash([footer.checksum if footer else None for footer in footers])

    def _fits(self, document: dict[str, Any], input_checksum: str) -> bool:
        wanted = {"input": input_checksum, "settings": self.settings, "version": self.stage.version}
        return all(document.get(key) == value for key, value in wanted.items())

    def _publish(self, path: Path, input_checksum: str, data: Any) -> None:
        document = {
            "input": input_checksum,
            "settings": self.settings,
            "version": self.stage.version,
            "checksum": settings_hash(data),
            "data": data,
        }
        publish_file(path, json.dumps(document, sort_keys=True).encode("utf-8"))


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


@dataclass(frozen=True)
class Step:
    """Work between two barriers: the same kind of work for every shard, in any order and on any number of tasks."""

    number: int
    kind: Literal["sketch", "map"]
    places: tuple[Place, ...]

    @property
    def name(self) -> str:
        """For people and job names."""
        first, last = self.places[0].stage.name, self.places[-1].stage.name
        if self.kind == "sketch":
            return f"{first}-sketch"
        return first if first == last else f"{first}-to-{last}"

    def is_done(self, shard: int) -> bool:
        """Whether nothing is left to do for this shard in this step."""
        if self.kind == "sketch":
            return self.places[0].read_sketch(shard) is not None
        return all(place.is_done(shard) for place in self.places)

    def missing(self, shards: int) -> list[int]:
        """Shards with work left, ascending."""
        return [shard for shard in range(shards) if not self.is_done(shard)]


def places(run: Run) -> tuple[Place, ...]:
    """Every stage of the run with its folders, in order."""
    from codeio_hpc.stages.registry import pipeline

    result: list[Place] = []
    before = run.stages / SOURCES_STAGE
    for number, stage in enumerate(pipeline(run.config), start=1):
        folder = run.stages / f"{number:02d}-{stage.name}"
        result.append(Place(run, stage, folder, before))
        before = folder
    return tuple(result)


def steps(run: Run) -> tuple[Step, ...]:
    """The run's work, cut at its barriers."""
    return tuple(_steps(places(run)))


def _steps(all_places: Sequence[Place]) -> Iterator[Step]:
    number, group = 0, list[Place]()
    for place in all_places:
        if isinstance(place.stage, GatherStage):
            if group:
                yield Step(number, "map", tuple(group))
                number += 1
            yield Step(number, "sketch", (place,))
            number += 1
            group = []
        group.append(place)
    yield Step(number, "map", tuple(group))


def share_out(shards: Sequence[int], tasks: int) -> list[list[int]]:
    """Spread shards over at most ``tasks`` tasks, round robin, so that neighbours (often alike) go apart."""
    count = max(1, min(tasks, len(shards)))
    return [list(shards[task::count]) for task in range(count)] if shards else []
