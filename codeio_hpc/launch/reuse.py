"""Reusing what another run has done: a row that went into a stage there, as it goes in here, comes out as it did there.

Rows have ids made of their content, and every random choice is seeded by such an id; so what a stage makes of a row
depends on nothing but the row, the settings and the stage's version. Two runs that share files, or that differ in late
stages only, share everything before the first difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from codeio_hpc.launch.plan import Place, places
from codeio_hpc.launch.run import Run, open_run
from codeio_hpc.stages.base import MapStage, Rejection
from codeio_hpc.tables import DamagedShardError, Row
from codeio_hpc.tables.schemas import FILES
from codeio_hpc.tables.shards import part_path, published_shards, read_rejected, read_shard

Result = Row | Rejection


class EarlierRun:
    """A run folder as a source of finished rows."""

    def __init__(self, folder: Path) -> None:
        self._run: Run = open_run(folder)

    @cached_property
    def _places(self) -> dict[str, Place]:
        return {place.stage.name: place for place in places(self._run)}

    @cached_property
    def _shard_of(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """All file ids, ascending, and the shard that each file and all that came of it are in. 25 bytes a file."""
        folder = self._places["collect"].folder
        width = len(FILES.row_id(""))
        ids, shards = [np.zeros(0, f"S{width}")], [np.zeros(0, np.int32)]
        for shard in published_shards(folder):
            column = pq.ParquetFile(part_path(folder, shard)).read(columns=["file_id"], use_threads=False)["file_id"]
            ids.append(np.array(column.to_pylist(), dtype=f"S{width}"))
            shards.append(np.full(len(column), shard, dtype=np.int32))
        joined = np.concatenate(ids)
        order = np.argsort(joined, kind="stable")
        return joined[order], np.concatenate(shards)[order]

    def _shards(self, rows: Sequence[Row]) -> list[int]:
        """The shards in which the files of these rows are, ascending."""
        ids, shards = self._shard_of
        wanted = np.unique(np.array([row["file_id"] for row in rows], dtype=ids.dtype))
        at = np.searchsorted(ids, wanted)
        found = at[at < len(ids)][ids[at[at < len(ids)]] == wanted[at < len(ids)]]
        return sorted({int(shard) for shard in shards[found]})

    def results(self, place: Place, rows: Sequence[Row]) -> dict[str, list[Result]]:
        """What this run's stage of the same name, version and settings made of each of the rows that it was given too,
        by the row's id."""
        ours = self._places.get(place.stage.name)
        same = ours is not None and ours.stage.version == place.stage.version and ours.settings == place.settings
        if ours is None or not same:
            return {}
        found: dict[str, list[Result]] = {}
        given = {row[place.stage.input.id]: row for row in rows}
        for shard in self._shards(rows):
            if not ours.is_done(shard):
                continue
            try:
                made = _made(ours, shard)
            except DamagedShardError:
                continue  # made again, then
            found |= {
                row_id: results for row_id, (row, results) in made.items() if row_id in given and given[row_id] == row
            }
        return found


def _made(place: Place, shard: int) -> dict[str, tuple[Row, list[Result]]]:
    """For each input row of a finished shard the row itself and what came of it, in order."""
    inputs = read_shard(part_path(place.input_folder, shard))
    made: dict[str, tuple[Row, list[Result]]] = {row[place.stage.input.id]: (row, []) for row in inputs}
    for row in read_shard(part_path(place.folder, shard)):
        made[row[place.stage.parent]][1].append(row)
    for row in read_rejected(place.folder, shard):
        owner = row["row_id"] if row["parent_id"] is None else row["parent_id"]
        made[owner][1].append(Rejection(row["row_id"], row["reason"], row["detail"], row["parent_id"]))
    return made


@dataclass(frozen=True)
class Reuse:
    """The earlier runs that a run may take rows from."""

    runs: tuple[EarlierRun, ...]

    @classmethod
    def of(cls, run: Run) -> Reuse:
        """Those that the run's launch settings name."""
        return cls(tuple(EarlierRun(Path(folder)) for folder in run.config.launch.reuse))

    def known(self, place: Place, rows: Sequence[Row]) -> dict[str, list[Result]]:
        """What is known of rows by their ids; nothing where a stage's rows depend on each other."""
        known: dict[str, list[Result]] = {}
        if isinstance(place.stage, MapStage) and place.stage.by_row:
            for run in self.runs:
                left = [row for row in rows if row[place.stage.input.id] not in known]
                known |= run.results(place, left) if left else {}
        return known


def merged(
    place: Place, rows: Sequence[Row], known: dict[str, list[Result]], results: Iterable[Result]
) -> Iterator[Result]:
    """What is known and what was made of the other rows, in the order of the rows."""
    made: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if isinstance(result, Rejection):
            made[result.row_id if result.parent_id is None else result.parent_id].append(result)
        else:
            made[result[place.stage.parent]].append(result)
    for row in rows:
        row_id = row[place.stage.input.id]
        yield from known.get(row_id) or made.pop(row_id, [])
    for strays in made.values():  # for the account to find
        yield from strays
