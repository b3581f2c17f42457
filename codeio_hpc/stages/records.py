"""Files of records (JSON lines, JSON lists, Parquet) and Hugging Face datasets; records hold raw files, functions or
samples."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from codeio_hpc.config.run import Source
from codeio_hpc.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet")
"""A file whose name ends so is a file of records."""
MAX_LINE_BYTES = 2**24
FIRST = 256
"""Records at the beginning of a file that tell whether the wanted columns are there at all."""
_MAX_LIST_BYTES = 2**30
"""A JSON list has to be read as a whole."""
_MAX_FACT = 300
"""Characters of a text beyond which it is no provenance but content."""
_BATCH = 256


@dataclass(frozen=True)
class Raw:
    """One record as it stands in its file."""

    number: int
    """The line or row, counted from 1."""
    fields: Mapping[str, Any]
    problem: str | None = None
    """``reason: detail``, where it could not be read."""


@dataclass(frozen=True)
class Wanted:
    """What is taken from each record."""

    columns: Mapping[str, str]
    """Part -> the column that holds it."""
    fix: str
    """How other columns are named in the configuration."""
    licence: str | None = None
    """The column with its licence."""
    optional: Mapping[str, str] = field(default_factory=dict)
    """As ``columns``, of parts that a record need not have."""
    types: Mapping[str, tuple[type, ...]] = field(default_factory=dict)
    """What a part may be, where that is not text."""
    as_json: bool = False
    """The content is a JSON object of all parts, even if there is but one."""


@dataclass(frozen=True)
class Record:
    """What was taken from one record, or why nothing was."""

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
    """Every record of a file of a source of code, in order; blank lines are none.

    Raises:
        UserError: the file cannot be read to its end, or no record has the columns.
    """
    with refusing_damage(path):
        yield from take(read_raw(path), wanted_of(source), str(path))


def read_dataset(name: str, split: str, source: Source) -> Iterator[Record]:
    """Every record of a Hugging Face dataset: a folder that ``save_to_disk`` made, or a name on the hub.

    Raises:
        UserError: there is no such dataset or split (offline: not in the cache), or it lacks the columns.
    """
    yield from take(read_raw_dataset(name, split), wanted_of(source), name)


def wanted_of(source: Source) -> Wanted:
    """What is taken from the records of a source of code: raw files, the parts of a function, or replies."""
    examples = {"file": "columns: {content: NAME}", "function": "functions: {code: NAME}", "reply": "replies: NAME"}
    fix = f"name the right one in the source's {examples[source.form]}"
    licence = source.columns.licence
    if source.functions is not None:
        columns = {part: str(column) for part, column in source.functions.model_dump().items()}
        return Wanted(columns, fix, licence, as_json=True)
    return Wanted({"content": source.replies or source.columns.content}, fix, licence)


# -- records as they stand in files ------------------------------------------------------------------------------------


@contextmanager
def refusing_damage(path: Path) -> Iterator[None]:
    """Tell a file that cannot be read to its end as a user's error."""
    try:
        yield
    except (OSError, EOFError) as error:  # Arrow's errors are OSErrors and ValueErrors
        raise UserError(f"{path}: {error}", "its records cannot be read to the end", "restore the file") from None


def read_raw(path: Path) -> Iterator[Raw]:
    """Every record of a file, in order; blank lines are none.

    Raises:
        OSError, EOFError: the file cannot be read to its end.
    """
    if path.suffix == ".parquet":
        return _parquet(path)
    return _json_list(path) if path.suffix == ".json" and _is_list(path) else _json_lines(path)


def read_raw_dataset(name: str, split: str) -> Iterator[Raw]:
    """Every record of a Hugging Face dataset, as :func:`read_dataset`."""
    import datasets

    try:
        found = datasets.load_from_disk(name) if Path(name).is_dir() else datasets.load_dataset(name, split=split)
        if isinstance(found, datasets.DatasetDict):
            found = found[split]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"dataset '{name}', split '{split}': {str(error).strip().splitlines()[0]}",
            "its records are what is built from",
            "give a folder made by save_to_disk, or a name that 'hf download --repo-type dataset' has fetched",
        ) from None
    for number, fields in enumerate(found, start=1):
        yield Raw(number, fields)


def _json_lines(path: Path) -> Iterator[Raw]:
    import pyarrow as pa

    with io.BufferedReader(pa.input_stream(path, compression="detect")) as lines:
        number = 0
        while line := lines.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = lines.readline(MAX_LINE_BYTES)
                yield Raw(number, {}, f"too_long: a line of more than {MAX_LINE_BYTES} bytes")
            elif line.strip():
                yield _from_line(number, line)


def _from_line(number: int, line: bytes) -> Raw:
    try:
        return _object(number, json.loads(line.rstrip(b"\r\n")))  # else a cut string seems to hold the line's end
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        reason = "not_utf8" if isinstance(error, UnicodeDecodeError) else "broken_record"
        return Raw(number, {}, f"{reason}: {str(error)[:200]}")


def _object(number: int, value: Any) -> Raw:
    if isinstance(value, dict):
        return Raw(number, value)
    return Raw(number, {}, f"broken_record: a JSON {type(value).__name__}, not an object")


def _is_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _json_list(path: Path) -> Iterator[Raw]:
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise OSError(f"a JSON list of more than {_MAX_LIST_BYTES} bytes has to be read as a whole: make it JSON lines")
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise OSError(str(error)) from None
    for number, value in enumerate(values, start=1):
        yield _object(number, value)


def _parquet(path: Path) -> Iterator[Raw]:
    import pyarrow.parquet as pq

    try:
        number = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH, use_threads=False):
            for fields in batch.to_pylist():
                number += 1
                yield Raw(number, fields)
    except ValueError as error:  # what Arrow says of a damaged file
        raise OSError(str(error)) from None


# -- what is taken of them ---------------------------------------------------------------------------------------------


def take(records: Iterator[Raw], wanted: Wanted, where: str) -> Iterator[Record]:
    """What is wanted of each record; a file whose first ones all lack a column is refused: its name is wrong.

    Raises:
        UserError: see above.
    """
    first = list(islice(records, FIRST))
    made = [_take(raw, wanted) for raw in first]
    if made and all((record.problem or "").startswith("no_content") for record in made):
        missing = next((column for column in wanted.columns.values() if column not in first[0].fields), None)
        raise UserError(
            f"{where}: no column '{missing}'" if missing else f"{where}, first {len(made)} records: {made[0].problem}",
            f"what is built from is read from it; there are: {', '.join(list(first[0].fields)[:12])}",
            wanted.fix,
        )
    return chain(made, (_take(raw, wanted) for raw in records))


def _take(raw: Raw, wanted: Wanted) -> Record:
    if raw.problem is not None:
        return Record(raw.number, None, raw.problem)
    parts: dict[str, Any] = {}
    for part, column in (*wanted.columns.items(), *wanted.optional.items()):
        value = raw.fields.get(column)
        if value is None and part in wanted.optional:
            continue
        if not isinstance(value, wanted.types.get(part, str)):
            what = "is not there" if column not in raw.fields else f"is of type {type(value).__name__}"
            return Record(raw.number, None, f"no_content: '{column}' {what}")
        parts[part] = value
    content = _content(parts, wanted)
    if content is None:
        return Record(raw.number, None, "broken_record: it holds values that are none of JSON's")
    if not is_text(content):
        return Record(raw.number, None, "not_utf8: half of a surrogate pair")
    licence = raw.fields.get(wanted.licence) if wanted.licence else None
    return Record(
        raw.number,
        content,
        None,
        licence if isinstance(licence, str) and is_text(licence) else None,
        _provenance(raw.fields, {*wanted.columns.values(), *wanted.optional.values()}),
    )


def _content(parts: Mapping[str, Any], wanted: Wanted) -> str | None:
    """The parts as one text; None if they are no JSON."""
    if not wanted.as_json:
        return str(next(iter(parts.values())))
    try:
        return json.dumps(parts, ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return None


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: no halves of surrogate pairs."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _provenance(fields: Mapping[str, Any], taken: set[str]) -> str:
    facts = {
        name: value for name, value in sorted(fields.items()) if name not in taken and is_text(name) and _is_fact(value)
    }
    return json.dumps(facts, ensure_ascii=False, sort_keys=True)


def _is_fact(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_FACT and is_text(value)
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
