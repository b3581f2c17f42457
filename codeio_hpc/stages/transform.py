"""transform: from a file, the pure functions in it, each self-contained with a question and an input generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from codeio_hpc.config.run import RunConfig
from codeio_hpc.stages.base import Context, MapStage, Rejection
from codeio_hpc.stages.static.functions import FunctionDraft, drafts
from codeio_hpc.stages.static.module import Refused, parse_module
from codeio_hpc.stages.static.tags import tags_of
from codeio_hpc.stages.static.unified import UnifiedFunction, finish
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import FILES, FUNCTIONS, Table


class Transform(MapStage):
    """The ``static`` method: existing pure functions are lifted as they are, without a teacher; functions that come in
    the unified format are held to the same rules.

    A function that is dropped is a rejected candidate of its file, with one reason; a file from which no function
    comes is rejected itself as ``no_function`` (or ``not_parseable``).
    """

    name: ClassVar[str] = "transform"
    version: ClassVar[int] = 3
    input: ClassVar[Table] = FILES
    output: ClassVar[Table] = FUNCTIONS

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return config.transform.model_dump(mode="json")

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        for done, row in enumerate(rows, start=1):
            yield from self._file(row, context)
            context.advance(done)

    def _file(self, row: Row, context: Context) -> Iterator[Row | Rejection]:
        try:
            if row["form"] == "function":
                given = finish(UnifiedFunction.from_json(row["content"]), context.config.transform)
                yield self._row(row, given)
                context.counts["functions"] += 1
                return
            module = parse_module(row["content"])
        except Refused as refused:
            yield Rejection(row["file_id"], refused.reason, refused.detail)
            return
        kept = dropped = 0
        for draft in drafts(module, context.config.transform):
            if isinstance(draft, FunctionDraft):
                kept += 1
                yield self._row(row, draft)
            else:
                dropped += 1
                name, reason, detail = draft
                identity = FUNCTIONS.row_id(row["file_id"], name)
                yield Rejection(identity, reason, f"{name}: {detail}" if detail else name, parent_id=row["file_id"])
        context.counts["functions"] += kept
        if not kept:
            yield Rejection(row["file_id"], "no_function", f"none of {dropped} functions can be used")

    def _row(self, row: Row, draft: FunctionDraft) -> Row:
        origin = {name: row[name] for name in ("file_id", "language", "source", "path", "licence")}
        return {
            "function_id": FUNCTIONS.row_id(row["file_id"], draft.name, draft.code),
            **origin,
            **{name: getattr(draft, name) for name in FunctionDraft.__dataclass_fields__},
            "split": "train",
            "tags": tags_of(draft.code, draft.entry_point),
        }
