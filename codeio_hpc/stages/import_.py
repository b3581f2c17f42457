"""import: finished samples, taken in one form, and of equal ones the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from codeio_hpc.config.run import RunConfig
from codeio_hpc.config.samples import SampleSource
from codeio_hpc.errors import UserError
from codeio_hpc.stages.base import Context, GatherStage, RefusedRowError, Rejection
from codeio_hpc.stages.conversations import normalised, read_conversation
from codeio_hpc.stages.difficulty import answer_difficulty
from codeio_hpc.stages.duplicates import find_duplicates, keep_first, sketch_of
from codeio_hpc.stages.near_duplicates import sign
from codeio_hpc.stages.origin import UnreadableFileError, read_below, root_of
from codeio_hpc.stages.records import MAX_LINE_BYTES
from codeio_hpc.stages.sample_origin import OF_A_RUN, file_source, samples_folder
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import SAMPLES, SOURCES, Table
from codeio_hpc.tables.shards import read_footer, read_shard


class Import(GatherStage):
    """Read every record, document and sample of another run; of equal texts in one training stage the first wins, in
    the order of the sources.

    Rejects: what is wrong with a record (broken_record, no_content, not_utf8, too_long) or a document (unreadable,
    not_utf8, too_long, changed), with a conversation (empty, not_text, bad_roles, no_assistant), licence (not among
    those wanted), left_out (of another training stage), weight (not in the share that is used), duplicate and
    near_duplicate.
    """

    name: ClassVar[str] = "import"
    version: ClassVar[int] = 1
    input: ClassVar[Table] = SOURCES
    output: ClassVar[Table] = SAMPLES

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        sources = {each.name: [each.training_stage, each.only, each.weight] for each in config.samples}
        return {"sources": sources, **config.imports.model_dump(mode="json", exclude={"samples_per_shard"})}

    def sketch(self, rows: Sequence[Row], context: Context) -> list[list[str]]:
        """For each row: source_id, then the id of its text and, where near-duplicates are looked for, the signature and
        the training stage; or '', reason and detail."""
        reader, sign_too = _Reader(context), context.config.imports.near_duplicates is not None

        def look(row: Row) -> list[str]:
            sample, identity = reader.read(row)
            text = "\n".join(message["content"] for message in sample["messages"])
            return [identity, *([sign(text), sample["training_stage"]] if sign_too else [])]

        return sketch_of(rows, look)

    def decide(self, sketches: Iterator[list[list[str]]], context: Context) -> dict[str, list[str]]:
        """Reason and detail for every source_id whose text an earlier one has, or almost has."""
        return find_duplicates(sketches, context.config.imports.near_duplicates)

    def apply(
        self,
        rows: Sequence[Row],
        sketch: Sequence[Sequence[str]],
        decision: Mapping[str, Sequence[str]],
        context: Context,
    ) -> Iterable[Row | Rejection]:
        for result in keep_first(rows, sketch, decision, _Reader(context).read):
            if not isinstance(result, Rejection):
                context.counts.update({"samples": 1, "trained_samples": result["repeats"]})
            yield result


def text_id(sample: Mapping[str, Any]) -> str:
    """What equal samples have in common: training stage, roles, and texts but for white space at their edges."""
    return SAMPLES.row_id(sample["training_stage"], *normalised(sample["messages"]))


class _Reader:
    """Makes samples of source rows."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._licences = context.config.imports.licences
        self._sources = {source.name: source for source in context.config.samples}
        self._folders: dict[str, Path] = {}

    def read(self, row: Row) -> tuple[Row, str]:
        """The sample that a source row stands for, and the id of its text.

        Raises:
            RefusedRowError: it is not wanted, or cannot be trained on.
            UserError: the run that it is to be taken from has changed.
        """
        source = self._sources[row["source"]]
        sample = self._of_run(source, row) if row["form"] == OF_A_RUN else self._of_record(source, row)
        if self._licences is not None and sample["licence"] not in self._licences:
            raise RefusedRowError("licence", f"'{sample['licence']}' is not among those wanted")
        identity = text_id(sample)
        return {**sample, "repeats": self._repeats(identity, source.weight * sample["repeats"])}, identity

    def _repeats(self, identity: str, wanted: float) -> int:
        """How often it is trained in an epoch. Equal texts draw the same lot, in every source: the tenth of a source is
        part of its half."""
        whole, rest = int(wanted), wanted % 1
        repeats = whole + (rest > 0 and self._context.random(identity).random() < rest)
        if not repeats:
            raise RefusedRowError("weight", f"not in the share of {wanted:g}")
        return repeats

    def _of_record(self, source: SampleSource, row: Row) -> Row:
        if row["problem"] is not None:
            reason, _, detail = row["problem"].partition(": ")
            raise RefusedRowError(reason, detail)
        content = row["content"] if row["content"] is not None else self._document(source, row["path"])
        messages = read_conversation(row["form"], content)
        stage = source.training_stage or "stage2"
        said = (part for message in messages for part in (message["role"], message["content"]))
        nothing: Row = dict.fromkeys(SAMPLES.schema.names)
        return nothing | {
            "sample_id": SAMPLES.row_id(stage, *said),
            **{name: row[name] for name in ("source_id", "language", "source", "path", "licence")},
            "training_stage": stage,
            "format": row["form"],
            "messages": messages,
            "turns": max(1, sum(message["role"] == "assistant" for message in messages)),
            "flags": [],
            "tags": [],
            "difficulty": answer_difficulty(messages[-1]["content"]),
            "repeats": 1,
        }

    def _document(self, source: SampleSource, path: str) -> str:
        """A file of plain text, with line feeds only and without a byte order mark."""
        if source.name not in self._folders:
            self._folders[source.name] = root_of(file_source(source))
        try:
            data = read_below(self._folders[source.name], path, MAX_LINE_BYTES + 1)
        except UnreadableFileError as error:
            raise RefusedRowError("unreadable", str(error)) from None
        if len(data) > MAX_LINE_BYTES:
            raise RefusedRowError("too_long", f"more than {MAX_LINE_BYTES} bytes")
        try:
            return data.decode("utf-8-sig", "strict").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            raise RefusedRowError("not_utf8", f"byte {error.start}: {error.reason}") from None

    def _of_run(self, source: SampleSource, row: Row) -> Row:
        if source.name not in self._folders:
            self._folders[source.name] = samples_folder(Path(str(source.run)))
        part, _, number = row["path"].rpartition(":")
        sample = _samples(self._folders[source.name] / part, row["content"])[int(number) - 1]
        if source.only not in (None, sample["training_stage"]):
            raise RefusedRowError("left_out", f"a sample of {sample['training_stage']}")
        stage = source.training_stage or sample["training_stage"]
        own = sample["sample_id"]
        return {
            **sample,
            "sample_id": own if stage == sample["training_stage"] else SAMPLES.row_id(own, stage),
            "source_id": row["source_id"],
            "source": row["source"],
            "training_stage": stage,
        }


@lru_cache(maxsize=2)
def _samples(part: Path, checksum: str) -> list[Row]:
    """The samples of a published shard, which must be those that the run was created with."""
    footer = read_footer(part)
    if footer is None or footer.checksum != checksum:
        raise UserError(
            f"{part} " + ("is gone" if footer is None else "holds other samples than when this run was created"),
            "a run is built from one state of what it takes its samples from",
            "restore it, or build into a new folder",
        )
    return read_shard(part)
