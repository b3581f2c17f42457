"""What a stage is: a pure function over the rows of a shard.

The engine in ``launch/`` owns everything else (which shards are missing, where they run, retries, publishing,
counting). A new stage is one file here and one line in ``registry.py``.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from codeio_hpc.config.run import RunConfig, settings_hash
from codeio_hpc.tables import Row, Table

if TYPE_CHECKING:
    from codeio_hpc.sandbox import Pool

Resource = Literal["cpu", "gpu", "teacher"]


@dataclass(frozen=True)
class Rejection:
    """A row that the stage dropped. ``reason`` is a short stable code, ``detail`` is for people.

    Without ``parent_id`` it is an input row, named by its id. With ``parent_id`` it is a candidate output row (a
    function of a file, an input of a function) that the stage made from that input row and then dropped; such a
    rejection does not account for the input row itself.
    """

    row_id: str
    reason: str
    detail: str = ""
    parent_id: str | None = None


class RefusedRowError(Exception):
    """A row is not wanted, or of no use; carries the reason code and a detail for people."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class SandboxUnavailableError(Exception):
    """The sandbox failed at a function, again and again. Never blamed on the code: the shard must be tried again."""


def derive(table: Table, parent: Row, **columns: Any) -> Row:
    """A row of ``table``: the given columns, and every other one carried over from the parent row."""
    return {name: columns[name] if name in columns else parent[name] for name in table.schema.names}


@dataclass
class Context:
    """What a stage may use besides its rows. Everything random or external comes through here."""

    config: RunConfig
    stage: str
    shard: int
    pool: Callable[[int], Pool]
    """The worker's sandbox whose interpreters run under the given hash seed; started at first use, kept for later."""
    journal: Path
    """Where the answers paid for in this shard are journalled."""
    counts: Counter[str] = field(default_factory=Counter)
    """What happened, by name; goes to the attempt's record, never into a table."""

    def seed(self, row_id: str) -> int:
        """The seed of every random choice about this row: hash(run seed, stage, row id), 63 bits."""
        return int(settings_hash([self.config.seed, self.stage, row_id])[:16], 16) >> 1

    def random(self, row_id: str) -> random.Random:
        """A generator seeded by :meth:`seed`."""
        return random.Random(self.seed(row_id))


class _Stage(ABC):
    """What both kinds of stage declare."""

    name: ClassVar[str]
    version: ClassVar[int]
    input: ClassVar[Table]
    output: ClassVar[Table]
    resource: ClassVar[Resource] = "cpu"

    @property
    def parent(self) -> str:
        """Column of the output rows that names the input row (or rows) they come from; their own id, where the stage
        hands on rows of the table that it takes."""
        return self.output.parent_in(self.input)

    @abstractmethod
    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The settings that matter: plain JSON data; a change makes published shards invalid."""


class MapStage(_Stage):
    """Output shard n is made from input shard n alone; one row may become many.

    The engine's account: each input row is the parent of at least one output row or has exactly one
    :class:`Rejection` of its own; anything else fails the shard.
    """

    by_row: ClassVar[bool] = True
    """Whether what becomes of a row (with its siblings of one file) depends on no other row, so that an earlier run's
    result can be taken over."""

    @abstractmethod
    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        """Transform a shard. Pure: the same rows and settings give the same result, in the same order."""


class GatherStage(_Stage):
    """A stage that must see all shards before it can do any: sketch a shard, decide once, apply a shard."""

    @abstractmethod
    def sketch(self, rows: Sequence[Row], context: Context) -> Any:
        """The little that the decision needs of one shard: JSON data."""

    @abstractmethod
    def decide(self, sketches: Iterator[Any], context: Context) -> Any:
        """From all sketches, in shard order, what :meth:`apply` must know: JSON data."""

    @abstractmethod
    def apply(self, rows: Sequence[Row], sketch: Any, decision: Any, context: Context) -> Iterable[Row | Rejection]:
        """Transform a shard, under the same account as a map stage, knowing its own sketch and what was decided.

        Every worker loads the decision: it should hold what one shard cannot know, and no more.
        """


Stage = MapStage | GatherStage
