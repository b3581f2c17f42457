"""Runs stages over rows in this process, with the engine's account checked, for tests of single stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeio_hpc.config.run import RunConfig

if TYPE_CHECKING:
    from codeio_hpc.sandbox import Pool
from codeio_hpc.stages.base import Context, GatherStage, MapStage, Rejection
from codeio_hpc.tables import Row
from codeio_hpc.tables.shards import to_arrow


def no_pool(hash_seed: int) -> Pool:
    raise AssertionError("this stage runs no code")


def context_for(stage: MapStage | GatherStage, config: RunConfig, pool: Callable[[int], Pool] = no_pool) -> Context:
    return Context(config, stage.name, 0, pool, Path("journal"))


def run_map(stage: MapStage, rows: Sequence[Row], context: Context) -> tuple[list[Row], list[Rejection]]:
    return _account(stage, rows, list(stage.run(rows, context)))


def run_gather(stage: GatherStage, rows: Sequence[Row], context: Context) -> tuple[list[Row], list[Rejection]]:
    sketch = stage.sketch(rows, context)
    decision = stage.decide(iter([sketch]), context)
    return _account(stage, rows, list(stage.apply(rows, sketch, decision, context)))


def _account(stage: Any, rows: Sequence[Row], made: list[Row | Rejection]) -> tuple[list[Row], list[Rejection]]:
    """Every input row is a parent or rejected once; rows fit the schema; ids are unique."""
    kept = [item for item in made if not isinstance(item, Rejection)]
    rejected = [item for item in made if isinstance(item, Rejection)]
    to_arrow(stage.output, kept)
    parents = {row[stage.parent] for row in kept}
    dropped = [item.row_id for item in rejected if item.parent_id is None]
    ids = [row[stage.input.id] for row in rows]
    assert len(set(dropped)) == len(dropped)
    assert parents.isdisjoint(dropped)
    assert parents | set(dropped) == set(ids)
    assert {item.parent_id for item in rejected if item.parent_id is not None} <= set(ids)
    identities = [row[stage.output.id] for row in kept]
    assert len(set(identities)) == len(identities)
    return kept, rejected
