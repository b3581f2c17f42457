"""What has to be done in a run: steps, their shards, and which of them are missing.

Consecutive map stages form one step: a task takes a shard through all of them, so a build needs one array job a step
instead of one a stage. The only barrier is a gather stage's decision: before it, a step of sketches; after it, the
stage's ``apply`` opens the next step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from codeio_hpc.config import settings_hash
from codeio_hpc.errors import UserError
from codeio_hpc.launch.run import SOURCES_STAGE, Run, source_identity
from codeio_hpc.stages.base import GatherStage, Stage
from codeio_hpc.tables import Identity
from codeio_hpc.tables.files import publish_file
from codeio_hpc.tables.index import FolderIndex, Made
from codeio_hpc.tables.schemas import SAMPLES
from codeio_hpc.tables.shards import Footer, is_valid, part_path, read_footer, shard_of


@dataclass(frozen=True)
class Place:
    """One stage at its place in a run."""

    run: Run
    stage: Stage
    folder: Path
    input_folder: Path
    _decision: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The decision once it was found valid: its inputs are frozen with the run, so it stays so."""

    @cached_property
    def settings(self) -> str:
        """Hash of what shapes this stage's rows, beside its input."""
        return settings_hash([self.run.config.seed, self.stage.name, dict(self.stage.settings(self.run.config))])

    def identity(self, shard: int) -> Identity | None:
        """What a valid shard of this stage must be; None while its input is not there."""
        source = read_footer(part_path(self.input_folder, shard))
        wanted = None if source is None else self.input_checksum(source.checksum)
        if wanted is None:
            return None
        stage = self.stage
        return Identity(stage.output, stage.name, stage.version, self.settings, wanted, shard)

    def input_checksum(self, source: str) -> str | None:
        """What a valid shard says of its input, of which this is the checksum; None while a decision is to be made."""
        if not isinstance(self.stage, GatherStage):
            return source
        decision = self.read_decision()
        return None if decision is None else settings_hash([source, decision["checksum"]])

    @property
    def origin(self) -> tuple[Any, ...]:
        """What the footers of all valid shards of this stage have in common."""
        return Identity(self.stage.output, self.stage.name, self.stage.version, self.settings, "", 0).origin

    def is_done(self, shard: int) -> bool:
        """Whether the stage's shard is published and made from what is there now."""
        identity = self.identity(shard)
        return identity is not None and is_valid(self.folder, identity)

    def sketch_path(self, shard: int) -> Path:
        """Where a gather stage keeps the sketch of a shard."""
        return self.folder / f"sketch-{shard:05d}.json"

    def read_sketch(self, shard: int) -> dict[str, Any] | None:
        """A valid sketch: {"input", "settings", "version", "data"}; None if there is none."""
        source = read_footer(part_path(self.input_folder, shard))
        sketch = _read_json(self.sketch_path(shard))
        if source is None or sketch is None or sketch.get("input") != source.checksum:
            return None
        return sketch if self._is_of_stage(sketch) else None

    def write_sketch(self, shard: int, input_checksum: str, data: Any) -> None:
        """Publish the sketch of a shard."""
        self._publish(self.sketch_path(shard), input_checksum, data)

    def read_decision(self) -> dict[str, Any] | None:
        """The decision of a gather stage. Whether it was made from the sketches that are there now is looked at before
        its shards are sent out (:meth:`decision_is_of`), not by each task: that takes the footers of all shards."""
        if not self._decision:
            decision = _read_json(self.folder / "decision.json")
            if decision is None or not self._is_of_stage(decision):
                return None
            self._decision.update(decision)
        return self._decision

    def decision_is_of(self, sources: Mapping[int, Made]) -> bool:
        """Whether the decision was made from these input shards."""
        decision = self.read_decision()
        return decision is not None and decision["input"] == self._all_inputs(sources)

    def write_decision(self, sources: Mapping[int, Made], data: Any) -> None:
        """Publish the decision made from these input shards."""
        self._decision.clear()
        self._publish(self.folder / "decision.json", self._all_inputs(sources), data)

    def _all_inputs(self, sources: Mapping[int, Made]) -> str:
        made = (sources.get(shard) for shard in range(self.run.shards))
        return settings_hash([None if each is None else each[1] for each in made])

    def _is_of_stage(self, document: dict[str, Any]) -> bool:
        return document.get("settings") == self.settings and document.get("version") == self.stage.version

    def _publish(self, path: Path, input_checksum: str, data: Any) -> None:
        document = {
            "input": input_checksum,
            "settings": self.settings,
            "version": self.stage.version,
            "checksum": settings_hash(data),
            "data": data,
        }
        publish_file(path, json.dumps(document, sort_keys=True).encode("utf-8"))

    def sketch_footer(self, path: Path) -> Footer | None:
        """What a sketch says of itself, in the words of a shard."""
        sketch = _read_json(path)
        shard = shard_of(path.name, "sketch")
        if sketch is None or shard is None or not self._is_of_stage(sketch):
            return None
        stage = self.stage
        return Footer("sketch", 1, stage.name, stage.version, self.settings, sketch["input"], shard, 0, 0, "")

    @property
    def sketch_origin(self) -> tuple[Any, ...]:
        """What all valid sketches of this stage have in common."""
        return ("sketch", 1, self.stage.name, self.stage.version, self.settings)


class Look:
    """One look at what is published in a run: each folder is read once.

    Args:
        may_save: whether what was read may be kept in the run's index.
    """

    def __init__(self, run: Run, may_save: bool = True) -> None:
        self._run, self._may_save = run, may_save
        self._sources: dict[int, Made] | None = None
        self._seen: dict[Path, dict[int, Made]] = {}

    def sources(self) -> dict[int, Made]:
        """The valid shards of the list of raw files."""
        if self._sources is None:
            folder = self._run.stages / SOURCES_STAGE
            self._sources = index_of(self._run, folder, self._may_save).made(source_identity(0).origin)
        return self._sources

    def made(self, place: Place) -> dict[int, Made]:
        """The published shards of a stage, of its present version and settings, whatever they were made from."""
        if place.folder not in self._seen:
            self._seen[place.folder] = index_of(self._run, place.folder, self._may_save).made(place.origin)
        return self._seen[place.folder]

    def inputs(self, place: Place) -> dict[int, Made]:
        """Those of the stage before."""
        before = [each for each in places(self._run) if each.folder == place.input_folder]
        return self.made(before[0]) if before else self.sources()

    def sketches(self, place: Place) -> dict[int, Made]:
        """The sketches of a stage."""
        saved = self._run.folder / "index" / f"{place.folder.name}-sketches.parquet"
        index = FolderIndex(place.folder, saved, "sketch", place.sketch_footer, self._may_save)
        return index.made(place.sketch_origin)


def index_of(run: Run, folder: Path, may_save: bool = True) -> FolderIndex:
    """The index of the published shards of a stage."""
    return FolderIndex(folder, run.folder / "index" / f"{folder.name}.parquet", may_save=may_save)


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

    @property
    def recorded(self) -> tuple[str, ...]:
        """The names of its stages in attempt records."""
        return tuple(
            f"{place.stage.name}-sketch" if self.kind == "sketch" else place.stage.name for place in self.places
        )

    def missing(self, run: Run, look: Look | None = None) -> list[int]:
        """Shards with work left, ascending."""
        look = look or Look(run)
        done = look.inputs(self.places[0])
        if self.kind == "sketch":
            sketches = look.sketches(self.places[0])
            done = {shard: each for shard, each in sketches.items() if shard in done and each[0] == done[shard][1]}
        else:
            for place in self.places:
                wanted = {shard: place.input_checksum(each[1]) for shard, each in done.items()}
                done = {shard: each for shard, each in look.made(place).items() if wanted.get(shard) == each[0]}
        return [shard for shard in range(run.shards) if shard not in done]


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


def samples_of(run: Run) -> Place:
    """The stage that a run's samples, in their last form, are published by.

    Raises:
        UserError: not all of them are published.
    """
    place = next(place for place in reversed(places(run)) if place.stage.output is SAMPLES)
    if any(not place.is_done(shard) for shard in range(run.shards)):
        raise UserError(
            f"{run.folder}: not all samples are made", "a part is no dataset", f"codeio resume {run.folder}"
        )
    return place


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
