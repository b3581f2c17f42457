"""Files of records: JSON lines, Parquet and Hugging Face datasets in which each record holds one raw file."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from codeio_hpc.config.run import RecordColumns
from codeio_hpc.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
"""A file whose name ends so is a file of records."""
MAX_LINE_BYTES = 2**24
_MAX_FACT = 300
"""Characters of a text beyond which it is no provenance but content."""
_BATCH = 256


@dataclass(frozen=True)
class Record:
    """One record: its content, or why there is none."""

    number: int
    """The line or row, counted from 1."""
    content: str | None
    problem: str | None
    """``reason: detail``; None where there is content."""
    licence: str | None = None
    provenance: str = "{}"
    """JSON object of the record's other short values: repository, path, score, ..."""


def is_record_file(name: str) -> bool:
    """Whether the name is that of a file of records."""
    return name.endswith(SUFFIXES)


def read_record_file(path: Path, columns: RecordColumns) -> Iterator[Record]:
    """Every record of a file, in order; blank lines are none.

    Raises:
        UserError: the file cannot be read to its end, or no record has the content column.
    """
    name = str(path)
    try:
        made = _parquet(path, columns) if name.endswith(".parquet") else _json_lines(path, columns)
        yield from _refuse_if_nowhere(made, name, columns)
    except (OSError, EOFError) as error:  # Arrow's errors are OSErrors and ValueErrors
        raise UserError(f"{path}: {error}", "its records cannot be read to the end", "restore the file") from None


def read_dataset(name: str, split: str, columns: RecordColumns) -> Iterator[Record]:
    """Every record of a Hugging Face dataset: a folder that ``save_to_disk`` made, or a name on the hub.

    Raises:
        UserError: there is no such dataset or split (offline: not in the cache), or it lacks the content column.
    """
    import datasets

    try:
        found = datasets.load_from_disk(name) if Path(name).is_dir() else datasets.load_dataset(name, split=split)
        if isinstance(found, datasets.DatasetDict):
            found = found[split]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"dataset '{name}', split '{split}': {str(error).strip().splitlines()[0]}",
            "its records are the raw files",
            "give a folder made by save_to_disk, or a name that 'hf download --repo-type dataset' has fetched",
        ) from None
    _require_column(name, found.column_names, columns)
    for number, fields in enumerate(found, start=1):
        yield _record(number, fields, columns)


def _json_lines(path: Path, columns: RecordColumns) -> Iterator[Record]:
    with _lines(path) as lines:
        number = 0
        while line := lines.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = lines.readline(MAX_LINE_BYTES)
                yield Record(number, None, f"too_long: a line of more than {MAX_LINE_BYTES} bytes")
            elif line.strip():
                yield _from_line(number, line, columns)


def _lines(path: Path) -> io.BufferedReader:
    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(path, compression="detect"))


def _from_line(number: int, line: bytes, columns: RecordColumns) -> Record:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        reason = "not_utf8" if isinstance(error, UnicodeDecodeError) else "broken_record"
        return Record(number, None, f"{reason}: {str(error)[:200]}")
    if not isinstance(fields, dict):
        return Record(number, None, f"broken_record: a JSON {type(fields).__name__}, not an object")
    return _record(number, fields, columns)


def _parquet(path: Path, columns: RecordColumns) -> Iterator[Record]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        _require_column(str(path), file.schema_arrow.names, columns)
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH):
            for fields in batch.to_pylist():
                number += 1
                yield _record(number, fields, columns)
    except ValueError as error:  # what Arrow says of a damaged file
        raise OSError(str(error)) from None


def _record(number: int, fields: Mapping[str, Any], columns: RecordColumns) -> Record:
    content = fields.get(columns.content)
    if not isinstance(content, str):
        what = "is not there" if columns.content not in fields else f"is no text but {type(content).__name__}"
        return Record(number, None, f"no_content: '{columns.content}' {what}")
    if not _is_text(content):
        return Record(number, None, "not_utf8: half of a surrogate pair")
    licence = fields.get(columns.licence) if columns.licence else None
    return Record(
        number,
        content,
        None,
        licence if isinstance(licence, str) and _is_text(licence) else None,
        _provenance(fields, columns),
    )


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _provenance(fields: Mapping[str, Any], columns: RecordColumns) -> str:
    facts = {
        name: value
        for name, value in sorted(fields.items())
        if name != columns.content and _is_text(name) and _is_fact(value)
    }
    return json.dumps(facts, ensure_ascii=False, sort_keys=True)


def _is_fact(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_FACT and _is_text(value)
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _require_column(where: str, names: list[str], columns: RecordColumns) -> None:
    if columns.content not in names:
        raise UserError(
            f"{where}: no column '{columns.content}'",
            f"the raw files are read from it; there are: {', '.join(names[:12])}",
            "name the right one in the source's columns: {content: NAME}",
        )


def _refuse_if_nowhere(records: Iterator[Record], where: str, columns: RecordColumns) -> Iterator[Record]:
    """Hand the records on; refuse a file whose first ones all lack the column: its name is wrong."""
    first = list(islice(records, _BATCH))
    if first and all((record.problem or "").startswith("no_content") for record in first):
        raise UserError(
            f"{where}: none of the first {len(first)} records has a text '{columns.content}'",
            "the raw files are read from it",
            "name the right one in the source's columns: {content: NAME}",
        )
    return chain(first, records)
