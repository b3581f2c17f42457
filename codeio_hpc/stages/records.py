"""Files of records: JSON lines, Parquet and Hugging Face datasets whose records hold raw files, or functions."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from codeio_hpc.config.run import Source
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


def read_record_file(path: Path, source: Source) -> Iterator[Record]:
    """Every record of a file, in order; blank lines are none.

    Raises:
        UserError: the file cannot be read to its end, or no record has the content column.
    """
    name = str(path)
    try:
        made = _parquet(path, source) if name.endswith(".parquet") else _json_lines(path, source)
        yield from _refuse_if_nowhere(made, name, source)
    except (OSError, EOFError) as error:  # Arrow's errors are OSErrors and ValueErrors
        raise UserError(f"{path}: {error}", "its records cannot be read to the end", "restore the file") from None


def read_dataset(name: str, split: str, source: Source) -> Iterator[Record]:
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
    _require_columns(name, found.column_names, source)
    for number, fields in enumerate(found, start=1):
        yield _record(number, fields, source)


def _json_lines(path: Path, source: Source) -> Iterator[Record]:
    with _lines(path) as lines:
        number = 0
        while line := lines.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = lines.readline(MAX_LINE_BYTES)
                yield Record(number, None, f"too_long: a line of more than {MAX_LINE_BYTES} bytes")
            elif line.strip():
                yield _from_line(number, line, source)


def _lines(path: Path) -> io.BufferedReader:
    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(path, compression="detect"))


def _from_line(number: int, line: bytes, source: Source) -> Record:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        reason = "not_utf8" if isinstance(error, UnicodeDecodeError) else "broken_record"
        return Record(number, None, f"{reason}: {str(error)[:200]}")
    if not isinstance(fields, dict):
        return Record(number, None, f"broken_record: a JSON {type(fields).__name__}, not an object")
    return _record(number, fields, source)


def _parquet(path: Path, source: Source) -> Iterator[Record]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        _require_columns(str(path), file.schema_arrow.names, source)
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH, use_threads=False):
            for fields in batch.to_pylist():
                number += 1
                yield _record(number, fields, source)
    except ValueError as error:  # what Arrow says of a damaged file
        raise OSError(str(error)) from None


def _record(number: int, fields: Mapping[str, Any], source: Source) -> Record:
    parts: dict[str, str] = {}
    for part, column in _texts(source).items():
        value = fields.get(column)
        if not isinstance(value, str):
            what = "is not there" if column not in fields else f"is no text but {type(value).__name__}"
            return Record(number, None, f"no_content: '{column}' {what}")
        if not _is_text(value):
            return Record(number, None, f"not_utf8: half of a surrogate pair in '{column}'")
        parts[part] = value
    content = json.dumps(parts, ensure_ascii=False, sort_keys=True) if source.functions else parts["content"]
    licence = fields.get(source.columns.licence) if source.columns.licence else None
    return Record(
        number,
        content,
        None,
        licence if isinstance(licence, str) and _is_text(licence) else None,
        _provenance(fields, source),
    )


def _texts(source: Source) -> dict[str, str]:
    """The columns that must hold text, by what they hold: the raw file, or the parts of a function."""
    if source.functions is not None:
        return {part: str(column) for part, column in source.functions.model_dump().items()}
    return {"content": source.columns.content if source.replies is None else source.replies}


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _provenance(fields: Mapping[str, Any], source: Source) -> str:
    content = set(_texts(source).values())
    facts = {
        name: value
        for name, value in sorted(fields.items())
        if name not in content and _is_text(name) and _is_fact(value)
    }
    return json.dumps(facts, ensure_ascii=False, sort_keys=True)


def _is_fact(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_FACT and _is_text(value)
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _require_columns(where: str, names: list[str], source: Source) -> None:
    if missing := [column for column in _texts(source).values() if column not in names]:
        raise UserError(
            f"{where}: no column '{missing[0]}'",
            f"what is built from is read from it; there are: {', '.join(names[:12])}",
            _fix(source),
        )


def _refuse_if_nowhere(records: Iterator[Record], where: str, source: Source) -> Iterator[Record]:
    """Hand the records on; refuse a file whose first ones all lack a column: its name is wrong."""
    first = list(islice(records, _BATCH))
    if first and all((record.problem or "").startswith("no_content") for record in first):
        columns = "', '".join(_texts(source).values())
        raise UserError(
            f"{where}: none of the first {len(first)} records has a text '{columns}'",
            "what is built from is read from it",
            _fix(source),
        )
    return chain(first, records)


def _fix(source: Source) -> str:
    examples = {"file": "columns: {content: NAME}", "function": "functions: {code: NAME}", "reply": "replies: NAME"}
    example = examples[source.form]
    return f"name the right one in the source's {example}"
