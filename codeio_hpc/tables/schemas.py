"""The Arrow schema of every table, with ids and parents.

A row's id is derived from its content; ``parent`` names the column with the id (or ids) of the row or rows it
came from. Columns of the parent that later stages need are carried along: dictionary pages make the repetition
nearly free in Parquet, and each row can be understood, and processed, on its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Table:
    """Name, schema and lineage of one kind of row. Raise ``version`` whenever the meaning of a column changes."""

    name: str
    prefix: str
    """What ids of this table begin with; no two tables share one."""
    id: str
    parent: str | None
    """Column with the parent's id, where one run has all stages; a list column where one row has several parents."""
    schema: pa.Schema
    version: int = 1

    def parent_in(self, above: Table) -> str:
        """The column of this table's rows that names the row (or rows) of the table ``above`` that they come from: that
        table's id, which they carry; of packed sequences, the list of them."""
        column = above.id if above.id in self.schema.names else self.parent
        assert column is not None, "every table but the list of sources has parents"
        return column

    def row_id(self, *parts: str) -> str:
        """The id of a row: the table's prefix and 20 hex digits of the SHA-256 of the length-prefixed parts.

        20 digits are 80 bits: among 10 million rows the chance of one collision is below 1e-10.
        """
        digest = hashlib.sha256()
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big"))
            digest.update(data)
        return f"{self.prefix}{digest.hexdigest()[:20]}"


def table_of_id(row_id: str) -> Table | None:
    """The table whose ids look like this one; None if it is no row id."""
    prefix = row_id[:-20]
    return next((table for table in TABLES.values() if table.prefix == prefix), None) if prefix else None


def _fields(**types: pa.DataType) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=False) for name, kind in types.items()]


def _optional(**types: pa.DataType) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=True) for name, kind in types.items()]


TEXT, INT, BOOL, FLOAT = pa.string(), pa.int32(), pa.bool_(), pa.float64()

_ORIGIN = _fields(language=TEXT, source=TEXT, path=TEXT, licence=TEXT)

_PROVENANCE = _fields(
    # file | function | reply: content is a source file, JSON with a function's parts, or a model's reply
    # chat | prompt | text | sample: JSON with what a conversation is made of, a document, or the checksum of the shard
    # that the sample of another run is in
    form=TEXT,
    provenance=TEXT,  # JSON object: what a record says of its raw file; empty for ordinary files
)

SOURCES = Table(
    "sources",
    "src",
    "source_id",
    None,
    pa.schema(
        _fields(source_id=TEXT) + _ORIGIN + _PROVENANCE + _optional(content=TEXT, problem=TEXT)  # of records only
    ),
    version=2,
)
"""One row a raw file to read; ``path`` is relative to the source's root, and for a record ends in ``:NUMBER``. A
record's content is frozen here; ``problem`` ("reason: detail") stands where it has none."""

FILES = Table(
    "files",
    "f",
    "file_id",
    "source_id",
    pa.schema(_fields(file_id=TEXT, source_id=TEXT) + _ORIGIN + _PROVENANCE + _fields(content=TEXT)),
    version=2,
)
"""Normalised text: UTF-8, four spaces for tabs, line feeds. ``file_id`` is the hash of language and content."""

_FUNCTION = _fields(
    name=TEXT,  # qualified name in its file
    code=TEXT,  # self-contained: imports, helpers, and the entry point
    entry_point=TEXT,
    io_description=TEXT,  # the names, types and meaning of inputs and output
    question=TEXT,
    kind=TEXT,  # sandbox pool: plain | scientific
    split=TEXT,  # train | heldout, the same for near-duplicates
    tags=pa.list_(
        TEXT
    ),  # what the code does: search, decisions, decomposition, recursion, iteration, arithmetic, strings
)

FUNCTIONS = Table(
    "functions",
    "fn",
    "function_id",
    "file_id",
    pa.schema(
        _fields(function_id=TEXT, file_id=TEXT)
        + _ORIGIN
        + _FUNCTION
        + _fields(
            parameters=TEXT,  # JSON list of {"name", "type", "origin": hint | default | doctest | …}
            generator=TEXT,  # source that defines input_generator() -> keyword arguments
        )
    ),
    version=2,
)

_PAIR_IDS = _fields(pair_id=TEXT, function_id=TEXT, file_id=TEXT)
_PAIR = _fields(
    input=TEXT,  # canonical JSON object of keyword arguments, as it was executed
    output=TEXT,  # canonical JSON
    position=INT,  # 0-based among the function's pairs
    pairs=INT,  # number of the function's pairs
    tier=TEXT,  # the narrowest tier that the pair fits: standard, or one of sample.wider
    flags=pa.list_(TEXT),  # constant | trivial | leaking | float_noise
) + _optional(  # both null where the code ran uncounted
    steps=INT,  # conditions evaluated and turns of loops in this execution
    coverage=FLOAT,  # share of the code's branch outcomes that the function's pairs take together; 1 without any
)

PAIRS = Table("pairs", "p", "pair_id", "function_id", pa.schema(_PAIR_IDS + _ORIGIN + _FUNCTION + _PAIR), version=2)

_INSTANCE_IDS = _fields(instance_id=TEXT) + _PAIR_IDS
_INSTANCE = _fields(
    direction=TEXT,  # output: predict the output; input: predict a feasible input; function: find it from examples
    prompt=TEXT,
    prompt_version=TEXT,
    difficulty=FLOAT,  # an estimate without a model; one more means twice as much of one thing
) + _optional(examples=TEXT)  # of direction function: JSON {"shown": [[input, output], ...], "hidden": the same}

INSTANCES = Table(
    "instances",
    "i",
    "instance_id",
    "pair_id",
    pa.schema(_INSTANCE_IDS + _ORIGIN + _FUNCTION + _PAIR + _INSTANCE),
    version=2,
)

_ANSWER_IDS = _fields(answer_id=TEXT) + _INSTANCE_IDS
_ANSWER = _fields(
    response=TEXT,
    teacher=TEXT,  # who answered, with its version
    sampling=TEXT,  # JSON object of all sampling parameters
)

ANSWERS = Table(
    "answers",
    "a",
    "answer_id",
    "instance_id",
    pa.schema(_ANSWER_IDS + _ORIGIN + _FUNCTION + _PAIR + _INSTANCE + _ANSWER),
    version=2,
)

_JUDGEMENT = _fields(
    category=TEXT,  # correct | wrong | exception | no_answer | timeout
    feedback=TEXT,  # what the execution says of the answer; never the expected value
) + _optional(prediction=TEXT)  # canonical JSON, null where none could be extracted

VERDICTS = Table(
    "verdicts",
    "v",
    "verdict_id",
    "answer_id",
    pa.schema(_fields(verdict_id=TEXT) + _ANSWER_IDS + _ORIGIN + _FUNCTION + _PAIR + _INSTANCE + _ANSWER + _JUDGEMENT),
    version=2,
)
"""First answers, judged by execution."""

_TURN = pa.struct(_fields(response=TEXT, category=TEXT, feedback=TEXT) + _optional(prediction=TEXT))

CONVERSATIONS = Table(
    "conversations",
    "c",
    "conversation_id",
    "verdict_id",
    pa.schema(
        _fields(conversation_id=TEXT, verdict_id=TEXT)
        + _ANSWER_IDS
        + _ORIGIN
        + _FUNCTION
        + _PAIR
        + _INSTANCE
        + _fields(teacher=TEXT, sampling=TEXT, turns=pa.list_(_TURN))
    ),
    version=2,
)
"""All turns of an instance: the first answer, and one more per revision while it was wrong."""

_MESSAGE = pa.struct(_fields(role=TEXT, content=TEXT))

SAMPLES = Table(
    "samples",
    "s",
    "sample_id",
    "conversation_id",
    pa.schema(
        _fields(sample_id=TEXT)
        + _optional(  # the parent's id is one of the first two; null is what an imported sample does not have
            source_id=TEXT,
            conversation_id=TEXT,
            instance_id=TEXT,
            pair_id=TEXT,
            function_id=TEXT,
            file_id=TEXT,
        )
        + _ORIGIN
        + _fields(
            training_stage=TEXT,  # stage1 | stage2 | rft
            format=TEXT,  # codeio | codeio++ | direct-answers; imported: chat | prompt | text
            messages=pa.list_(_MESSAGE),  # of plain text one, of role text
            turns=INT,
            flags=pa.list_(TEXT),
            tags=pa.list_(TEXT),
            difficulty=FLOAT,
            repeats=INT,  # how often it is trained in an epoch
        )
        + _optional(direction=TEXT, category=TEXT, tier=TEXT)  # category: of the last turn
    ),
    version=3,
)

SEQUENCES = Table(
    "sequences",
    "q",
    "sequence_id",
    "sample_ids",
    pa.schema(
        _fields(
            sequence_id=TEXT,
            sample_ids=pa.list_(TEXT),
            language=TEXT,
            training_stage=TEXT,
            input_ids=pa.list_(INT),
            trained=pa.list_(BOOL),  # same length: the loss counts this token
            starts=pa.list_(INT),  # index of each sample's first token in input_ids, ascending, first is 0
            difficulty=FLOAT,  # mean of the samples'
        )
    ),
    version=2,
)
"""Packed token sequences; samples attend only to themselves and positions restart at each of ``starts``."""

REJECTED = Table(
    "rejected",
    "",
    "row_id",
    None,
    pa.schema(_fields(row_id=TEXT, stage=TEXT, reason=TEXT, detail=TEXT, language=TEXT) + _optional(parent_id=TEXT)),
)
"""Dropped rows. With ``parent_id`` null, ``row_id`` is an input row of the stage; otherwise it is a candidate that the
stage made from the input row ``parent_id`` and dropped."""

TABLES = {
    table.name: table
    for table in (
        SOURCES,
        FILES,
        FUNCTIONS,
        PAIRS,
        INSTANCES,
        ANSWERS,
        VERDICTS,
        CONVERSATIONS,
        SAMPLES,
        SEQUENCES,
        REJECTED,
    )
}
