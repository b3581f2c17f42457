"""Writing an export: shard by shard, into a folder that appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codeio_hpc.config import settings_hash
from codeio_hpc.errors import UserError
from codeio_hpc.export.formats import FORMATS, Document, Format, UnfitSampleError
from codeio_hpc.launch.plan import Place, places, samples_of
from codeio_hpc.launch.progress import Tally
from codeio_hpc.launch.run import Run, open_run
from codeio_hpc.report.card import write_card
from codeio_hpc.tables import Row
from codeio_hpc.tables.files import publish_folder
from codeio_hpc.tables.schemas import CONVERSATIONS, SAMPLES
from codeio_hpc.tables.shards import part_path, read_shard

SPLIT = "train"
"""Held-out functions are never among the samples."""


def export(folder: Path, form: str, out: Path | None, training_stage: str) -> dict[str, Any]:
    """Write the samples of one training stage.

    Returns {"format", "out", "samples", "files", "done_before"}; an export that is there already is left as it is.

    Raises:
        UserError: no run, a dataset that is not complete, no such format, no samples, or ``out`` holds something else.
    """
    if form not in FORMATS:
        raise UserError(f"--as {form}", "there is no such format", f"known: {', '.join(FORMATS)}")
    run = open_run(folder)
    samples = samples_of(run)
    target = (out or run.folder / "export" / f"{form}-{training_stage}").resolve()
    identity = settings_hash(run.config.identity())
    written = {"run": identity, "format": form, "training_stage": training_stage, "samples": samples.settings}
    if target.exists():
        return _seen(target, written)
    staging = target.with_name(f".{target.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        count = _write(FORMATS[form], staging, _rows(run, samples, training_stage))
        if not count:
            raise UserError(
                f"{folder}: no samples of {training_stage}",
                "there is nothing to write",
                "name another --stage, or see what was dropped with:"
                f" codeio rejected {folder} --stage {samples.stage.name}",
            )
        for name, text in FORMATS[form].beside(run.config.name).items():
            (staging / name).write_text(text, encoding="utf-8")
        (staging / "README.md").write_text(write_card(folder, training_stage), encoding="utf-8")
        (staging / ".export.json").write_text(json.dumps({**written, "count": count}), encoding="utf-8")
        publish_folder(staging, target)
    except UnfitSampleError as unfit:
        shutil.rmtree(staging, ignore_errors=True)
        raise UserError(
            f"{folder}: {unfit}", f"the format {form} has no place for that", "export --as hf, parquet or jsonl"
        ) from None
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return _told(target, form, count, done_before=False)


def _seen(target: Path, written: dict[str, Any]) -> dict[str, Any]:
    try:
        before = json.loads((target / ".export.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    if {key: before.get(key) for key in written} != written:
        raise UserError(f"{target} is there already", "it is not this export", "remove it, or give another --out DIR")
    return _told(target, written["format"], before["count"], done_before=True)


def _told(target: Path, form: str, count: int, done_before: bool) -> dict[str, Any]:
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    shown = [name for name in files if not name.startswith(".")]
    return {"format": form, "out": str(target), "samples": count, "files": shown, "done_before": done_before}


def _rows(run: Run, samples: Place, training_stage: str) -> Iterator[list[tuple[Row, Row | None]]]:
    """Samples of a shard, each with its conversation, if it was made of one in this run."""
    before = next((place for place in reversed(places(run)) if place.stage.output is CONVERSATIONS), None)
    tell = Tally("exporting", "shards", run.shards)
    for shard in range(run.shards):
        tell(shard)
        rows = [row for row in read_shard(part_path(samples.folder, shard)) if row["training_stage"] == training_stage]
        if rows:
            found = read_shard(part_path(before.folder, shard)) if before else []
            conversations = {row["conversation_id"]: row for row in found}
            yield [(row, conversations.get(row["conversation_id"])) for row in rows]


def _write(form: Format, folder: Path, shards: Iterator[list[tuple[Row, Row | None]]]) -> int:
    count = 0
    for part, rows in enumerate(shards):
        documents = [
            document
            for sample, conversation in rows
            for document in [form.write(sample, conversation)] * (sample["repeats"] if form.repeats else 1)
        ]
        count += len(documents)
        path = folder / form.data.format(split=SPLIT, part=part)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(documents, schema=SAMPLES.schema), path, compression="zstd")
        else:
            _append(path, documents)
    return count


def _append(path: Path, documents: list[Document]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
