"""Where finished samples lie: the records of a run's sample sources, and the samples of earlier runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

from codeio_hpc.config.run import RunConfig, Source
from codeio_hpc.config.samples import SampleFormat, SampleSource
from codeio_hpc.errors import UserError
from codeio_hpc.stages.conversations import wanted_of
from codeio_hpc.stages.origin import files_of, path_as_text, root_of
from codeio_hpc.stages.records import (
    FIRST,
    SUFFIXES,
    Raw,
    Record,
    Wanted,
    is_record_file,
    read_raw,
    read_raw_dataset,
    refusing_damage,
    take,
)
from codeio_hpc.tables import Row
from codeio_hpc.tables.manifest import read_manifest
from codeio_hpc.tables.schemas import SAMPLES, SOURCES
from codeio_hpc.tables.shards import part_path, read_footer

LANGUAGE = "text"
"""Of what is imported: nobody says which languages it is written in."""
OF_A_RUN = "sample"
"""The form of a source row that stands for a sample of another run."""
_DOCUMENTS = (".txt", ".py")
_GLOB = frozenset("*?[")

Say = Callable[[str], None]


def list_samples(config: RunConfig, say: Say = lambda text: None) -> Iterator[Row]:
    """The rows of the sources table: every record, document and sample of every source, in a fixed order.

    ``say`` is told what is taken for what, where the configuration left that open. What records hold is in the rows;
    documents stay where they are; of a run's samples the row names shard and number, and pins the shard's checksum.

    Raises:
        UserError: a missing folder, dataset or run, a run that is not complete, a file that cannot be read or whose
            columns do not tell what they hold, or a source without any sample.
    """
    for source in config.samples:
        rows = _rows_of(source, say)
        first = next(rows, None)
        if first is None:
            raise UserError(
                f"samples '{source.name}': {source.run or source.dataset or source.path} holds none",
                "there is nothing to take in; links that lead out of a folder are not followed",
                "correct where it points, or name the files themselves",
            )
        yield first
        yield from rows


def _rows_of(source: SampleSource, say: Say) -> Iterator[Row]:
    if source.run is not None:
        yield from _rows_of_run(source, Path(source.run))
    elif source.dataset is not None:
        reader = _Reader(source, say)
        for record in reader.records(read_raw_dataset(source.dataset, source.split), source.dataset):
            yield _record_row(source, reader.form, source.split, record)
    else:
        yield from _rows_of_files(source, say)


def _rows_of_files(source: SampleSource, say: Say) -> Iterator[Row]:
    files, reader = file_source(source), _Reader(source, say)
    root = root_of(files)
    for name in sorted(files_of(files), key=os.fsencode):
        path = path_as_text(name)
        if is_record_file(name):
            with refusing_damage(root / name):
                for record in reader.records(read_raw(root / name), str(root / name)):
                    yield _record_row(source, reader.form, path, record)
            continue
        if source.format != "text" and (source.format or not name.endswith(_DOCUMENTS)):
            raise UserError(
                f"samples '{source.name}': {name} is no file of records",
                f"those end in {', '.join(SUFFIXES)}",
                "leave it out; or, to train on whole files as they stand, set format: text",
            )
        yield _row(source, "text", path)


def file_source(source: SampleSource) -> Source:
    """The source's files, as a source of raw files has them; a folder means the files of records in it."""
    path = Path(source.path or "").expanduser()
    fixed = next((place for place, part in enumerate(path.parts) if _GLOB & set(part)), len(path.parts))
    if fixed == len(path.parts) or path.exists():
        return Source(name=source.name, path=str(path), include=tuple(f"**/*{suffix}" for suffix in SUFFIXES))
    root, pattern = Path(*path.parts[:fixed]), "/".join(path.parts[fixed:])
    return Source(name=source.name, path=str(root), include=(pattern,))


class _Reader:
    """Takes records as the first of them say; all files of a source are of one kind."""

    form: SampleFormat = "text"

    def __init__(self, source: SampleSource, say: Say) -> None:
        self._source, self._say = source, say
        self._wanted: Wanted | None = None

    def records(self, raws: Iterator[Raw], where: str) -> Iterator[Record]:
        first = list(islice(raws, FIRST))
        if self._wanted is None and first:
            self.form, self._wanted = wanted_of(self._source, first, where)
            columns = {**self._wanted.columns, **self._wanted.optional}
            told = ", ".join(part if part == name else f"{part} in '{name}'" for part, name in columns.items())
            self._say(f"samples '{self._source.name}': format {self.form} ({told})")
        if self._wanted is not None:
            yield from take(chain(first, raws), self._wanted, where)


def _record_row(source: SampleSource, form: str, path: str, record: Record) -> Row:
    row = _row(source, form, f"{path}:{record.number}")
    taken = {"content": record.content, "problem": record.problem, "provenance": record.provenance}
    return row | taken | ({"licence": record.licence} if record.licence else {})


def _row(source: SampleSource, form: str, path: str) -> Row:
    return {
        "source_id": SOURCES.row_id(source.name, path),
        "language": LANGUAGE,
        "source": source.name,
        "path": path,
        "licence": source.licence,
        "form": form,
        "provenance": "{}",
        "content": None,
        "problem": None,
    }


def _rows_of_run(source: SampleSource, run: Path) -> Iterator[Row]:
    manifest = read_manifest(run)
    if manifest is None:
        raise UserError(f"samples '{source.name}': {run} is no run folder", "its samples are read", "correct its path")
    folder = samples_folder(run)
    for shard in range(manifest.shards):
        part = part_path(folder, shard)
        footer = read_footer(part)
        if footer is None:
            raise UserError(
                f"samples '{source.name}': {part} is not there",
                "all samples of the run are taken, or none",
                f"codeio resume {run}",
            )
        for number in range(1, footer.rows + 1):
            yield _row(source, OF_A_RUN, f"{part.name}:{number}") | {"content": footer.checksum}


def samples_folder(run: Path) -> Path:
    """Where a run's samples are, in their last form: the last of its stages whose shards hold such.

    Raises:
        UserError: it has none.
    """
    for folder in sorted((run / "stages").glob("[0-9][0-9]-*"), reverse=True):
        footer = read_footer(part_path(folder, 0))
        if footer is not None and footer.table == SAMPLES.name:
            return folder
    raise UserError(f"{run}: there are no samples in it", "they are what is taken from it", f"codeio resume {run}")
