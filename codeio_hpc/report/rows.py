"""Single rows of a run: where one comes from, what became of it, and which were rejected for what reason."""

from __future__ import annotations

import difflib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.launch.plan import places
from codeio_hpc.launch.run import SOURCES_STAGE, Run, open_run
from codeio_hpc.tables import TABLES, Row, Table, table_of_id
from codeio_hpc.tables.reasons import MEANING, meaning_of
from codeio_hpc.tables.schemas import SEQUENCES, SOURCES
from codeio_hpc.tables.shards import part_path, published_shards, read_rejected, read_shard
from codeio_hpc.train.lineage import trained_at

_FEW = 5
_CANDIDATES = 10
_REASONS = 20
_OF_RECORDS = ("language", "licence")
_WIDTH = 2_000
"""Characters of a value that are shown to people; JSON has all of them."""


@dataclass(frozen=True)
class _Level:
    """One table of the run: the stage that made it, and where it lies."""

    stage: str
    table: Table
    folder: Path


def _levels(run: Run) -> list[_Level]:
    made = [_Level(place.stage.name, place.stage.output, place.folder) for place in places(run)]
    return [_Level("sources", SOURCES, run.stages / SOURCES_STAGE), *made]


def show(folder: Path, row_id: str) -> dict[str, Any]:
    """One row with everything it came from and what was made of it.

    Returns {"id", "rows": [{"table", "stage", "shard", "row"}] from the raw file down to the row, "rejected": {"stage",
    "reason", "detail"} or None, "made": [{"table", "count", "ids": the first few}], "of_run": {"run", "id"} of what a
    sample was made of in another run, or None, "candidates": {"stage", "reason", "id", "detail"} of what was made of it
    and then dropped, "trained": of a sample or a sequence, by :func:`codeio_hpc.train.lineage.trained_at`}. A shard's
    rows come from the shard of the same number before it, so that only one shard of each table is read once the row is
    found.

    Raises:
        UserError: no run, no id, or no such row in it.
    """
    run = open_run(folder)
    levels = _levels(run)
    table = table_of_id(row_id)
    if table is None:
        known = ", ".join(f"{table.prefix}… ({table.name})" for table in TABLES.values() if table.prefix)
        raise UserError(f"'{row_id}' is no row id", "an id is a table's letters and 20 hex digits", f"known: {known}")
    found = _find([level for level in levels if level.table is table], levels, row_id)
    if found is None:
        raise UserError(
            f"{folder}: no row {row_id}",
            f"neither the table '{table.name}' nor the rejected rows of this run have it",
            f"ids of rejected rows: codeio rejected {folder}",
        )
    level, shard, row, rejected = found
    lineage = [(level, row)] if row is not None else []
    child, parent = level.table, rejected["parent_id"] if row is None and rejected is not None else None
    for above in reversed(_before(levels, level)):
        if lineage:
            parent = lineage[-1][1][child.parent_in(above.table)]
        parents = parent if isinstance(parent, list) else [parent]
        rows = _rows_with(above, shard, {str(one) for one in parents})
        lineage += [(above, one) for one in rows]
        child = above.table
        if len(rows) != 1:
            break  # a packed sequence has several parents: their own ids lead further
    return {
        "id": row_id,
        "rows": [
            {"table": place.table.name, "stage": place.stage, "shard": shard, "row": one}
            for place, one in reversed(lineage)
        ],
        "rejected": rejected and {key: rejected[key] for key in ("stage", "reason", "detail")},
        "made": _made(level.table, _after(levels, level), shard, row_id) if row is not None else [],
        "of_run": _of_run(run, row) if row is not None else None,
        "candidates": _candidates(levels[levels.index(level) + 1 :], shard, row_id),
        "trained": _trained(folder, levels, shard, row_id),
    }


def _trained(folder: Path, levels: list[_Level], shard: int, row_id: str) -> list[dict[str, Any]]:
    """When the sequence with this id, or those that have the sample with it, are trained."""
    sequences = [level for level in levels if level.table is SEQUENCES and part_path(level.folder, shard).exists()]
    rows = [row for level in sequences for row in read_shard(part_path(level.folder, shard))]
    mine = [row for row in rows if row_id == row["sequence_id"] or row_id in row["sample_ids"]]
    told = (trained_at(folder, row["training_stage"], row["sequence_id"]) for row in mine)
    return [each for each in told if each is not None]


def _candidates(levels: list[_Level], shard: int, row_id: str) -> list[dict[str, str]]:
    """What later stages made of a row and then dropped."""
    return [
        {"stage": row["stage"], "reason": row["reason"], "id": row["row_id"], "detail": row["detail"]}
        for level in levels
        if part_path(level.folder, shard).exists()
        for row in read_rejected(level.folder, shard)
        if row["parent_id"] == row_id
    ]


def _before(levels: list[_Level], level: _Level) -> list[_Level]:
    """The last form of each table above that of ``level``."""
    above = [one for one in _last_of_each(levels) if one.table is not level.table]
    return [one for one in above if levels.index(one) < levels.index(level)]


def _after(levels: list[_Level], level: _Level) -> list[_Level]:
    """The last form of each table below that of ``level``."""
    below = [one for one in _last_of_each(levels) if one.table is not level.table]
    return [one for one in below if levels.index(one) > levels.index(level)]


def _last_of_each(levels: list[_Level]) -> list[_Level]:
    """Some stages hand on rows of the table that they take: of such tables the last form counts."""
    return list({level.table.name: level for level in levels}.values())


def _find(forms: list[_Level], levels: list[_Level], row_id: str) -> tuple[_Level, int, Row | None, Row | None] | None:
    """Level, shard, row and rejection of an id: the row was kept, or was a candidate that its own stage dropped."""
    for level in reversed(forms):
        for shard in published_shards(level.folder):
            row = next(iter(_rows_with(level, shard, {row_id})), None)
            if row is not None:  # kept, but the next stage may have dropped it
                following = levels[levels.index(level) + 1 :][:1]
                after = [one for next_level in following for one in read_rejected(next_level.folder, shard)]
                dropped = [one for one in after if one["row_id"] == row_id and one["parent_id"] is None]
                return level, shard, row, dropped[0] if dropped else None
    for level in forms[:1]:
        for shard in published_shards(level.folder):
            for one in read_rejected(level.folder, shard):
                if one["row_id"] == row_id and one["parent_id"]:
                    return level, shard, None, one
    return None


def _rows_with(level: _Level, shard: int, ids: set[str]) -> list[Row]:
    path = part_path(level.folder, shard)
    return [row for row in read_shard(path) if row[level.table.id] in ids] if path.exists() else []


def _of_run(run: Run, row: Row) -> dict[str, str] | None:
    """Where a sample that was taken from another run was made."""
    taken = {source.name: source.run for source in run.config.samples if source.run is not None}
    if row.get("conversation_id") is None or row["source"] not in taken:
        return None
    return {"run": str(taken[row["source"]]), "id": row["conversation_id"]}


def _made(above: Table, levels: list[_Level], shard: int, row_id: str) -> list[dict[str, Any]]:
    made = []
    ids = [row_id]
    for level in levels:
        path = part_path(level.folder, shard)
        if not path.exists():
            break
        parents, ids = set(ids), []
        for row in read_shard(path):
            parent = row[level.table.parent_in(above)]
            if parents & set(parent if isinstance(parent, list) else [parent]):
                ids.append(row[level.table.id])
        made.append({"table": level.table.name, "count": len(ids), "ids": ids[:_FEW]})
        above = level.table
    return made


def show_text(shown: dict[str, Any], full: bool = False) -> str:
    """The same for people: what became of it and when it is trained, then of each row what it adds to the one
    before it; long texts are cut unless it is to be ``full``."""
    lines = [_fate(shown), *map(_trained_line, shown["trained"])]
    width = None if full else _WIDTH
    before: dict[str, object] = {}
    last = shown["rows"][-1]["row"] if shown["rows"] else {}
    for entry in shown["rows"]:
        table = TABLES[entry["table"]]
        row = entry["row"]
        lines.append(f"{entry['table']}  {row[table.id]}  ({entry['stage']}, shard {entry['shard']})")
        own = [name for name in row if name != table.id and row[name] not in (None, before.get(name))]
        # of a file of many records it is known only what it was taken for; each record says what it is
        own = [name for name in own if name not in _OF_RECORDS or row[name] == last.get(name, row[name])]
        lines += [_column(name, row[name], width) for name in own if not name.endswith(("_id", "_ids"))]
        before |= row
    for entry in shown["made"]:
        if not entry["count"]:
            continue
        more = " …" if entry["count"] > len(entry["ids"]) else ""
        lines.append(f"{entry['count']:,} {entry['table']}: {' '.join(entry['ids'])}{more}".rstrip(": "))
    if shown["of_run"]:
        lines.append(f"made in another run: codeio show {shown['of_run']['run']} {shown['of_run']['id']}")
    return "\n".join([*lines, *_candidate_lines(shown["candidates"], None if full else _CANDIDATES)])


def _trained_line(told: dict[str, Any]) -> str:
    if told["validation"]:
        return f"{told['stage']}: never trained, kept for validation"
    steps = ", ".join(f"{step:,}{'' if step <= told['done'] else ' (to come)'}" for step in told["steps"])
    return f"{told['stage']}: trained at step {steps}" if steps else f"{told['stage']}: not trained by its steps"


def _candidate_lines(candidates: list[dict[str, str]], most: int | None) -> list[str]:
    lines = [f"{len(candidates):,} candidates were made of it and dropped:"] if candidates else []
    for one in candidates[:most]:
        lines.append(_column(one["id"], f"{one['stage']}: {one['reason']}  {one['detail']}".rstrip()))
    if most is not None and len(candidates) > most:
        lines.append(f"  … {len(candidates) - most:,} more: all of them with --full")
    return lines


def _fate(shown: dict[str, Any]) -> str:
    """In one line, what became of the row."""
    if shown["rejected"]:
        rejected = shown["rejected"]
        text = f"{shown['id']} was rejected by {rejected['stage']}: {rejected['reason']}  {rejected['detail']}".rstrip()
        return _printable(f"{text}\n  {meaning_of(rejected['reason'])}".rstrip())
    made = [f"{entry['count']:,} {entry['table']}" for entry in shown["made"] if entry["count"]]
    return f"{shown['id']}: " + (f"kept; made of it: {', '.join(made)}" if made else "kept")


def _column(name: str, value: object, width: int | None = _WIDTH) -> str:
    text = value if isinstance(value, str) else _plain(value)
    if width is not None and len(text) > width:
        text = f"{text[:width]} … ({len(text):,} characters: all of them with --full)"
    text = _printable(text)
    if "\n" not in text:
        return f"  {name}: {text}"
    return f"  {name}:\n" + "\n".join(f"    | {line}" for line in text.rstrip("\n").split("\n"))


def _printable(text: str) -> str:
    """Nothing that is shown may steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def _plain(value: object) -> str:
    if isinstance(value, list) and value and all(isinstance(one, bool) for one in value):
        return _spans(value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n".join(
            f"[{number}] {key}: {one[key]}" for number, one in enumerate(value, start=1) for key in one if one[key]
        )
    return json.dumps(value, ensure_ascii=False)


def _spans(mask: list[bool]) -> str:
    """How many are true, and which: first and last of each row of them, counted from 0 as ``starts`` are."""
    begins = [index for index, on in enumerate(mask) if on and not (index and mask[index - 1])]
    ends = [index for index, on in enumerate(mask) if on and not any(mask[index + 1 : index + 2])]
    spans = " ".join(f"{begin}-{end}" for begin, end in zip(begins, ends, strict=True))
    return f"{sum(mask):,} of {len(mask):,}: {spans}".rstrip(": ")


def rejected(folder: Path, why: str | None, stage: str | None, limit: int) -> dict[str, Any]:
    """How many rows each stage rejected for each reason; with ``why`` also the first ``limit`` of those rows.

    ``why`` is a reason, or the part of one before its colon (``impure`` is every ``impure:…``).

    Each of the rows has ``of`` besides its own columns: path and name of what it is or was made of.

    Raises:
        UserError: no run, no such stage, no such reason.
    """
    first, *levels = _levels(open_run(folder))
    if stage is not None and stage not in (names := [level.stage for level in levels]):
        raise UserError(f"stage '{stage}'", "this run has no such stage", f"its stages: {', '.join(names)}")
    counts: dict[tuple[str, str, str], int] = Counter()
    chosen: list[Row] = []
    for above, level in pairwise([first, *levels]):
        for shard in published_shards(level.folder) if stage in (None, level.stage) else ():
            wanted: list[Row] = []
            for row in read_rejected(level.folder, shard):
                counts[row["stage"], row["reason"], "rows" if row["parent_id"] is None else "candidates"] += 1
                if why in (row["reason"], row["reason"].partition(":")[0]) and len(chosen) + len(wanted) < limit:
                    wanted.append(row)
            chosen += _with_origin(wanted, above, shard)
    table = [
        {"stage": key[0], "reason": key[1], "kind": key[2], "count": count}
        for key, count in sorted(counts.items(), key=lambda item: (_order(levels, item[0][0]), -item[1], item[0]))
    ]
    if why is not None:
        table = [entry for entry in table if why in (entry["reason"], str(entry["reason"]).partition(":")[0])]
        if not table and not meaning_of(why):
            near = difflib.get_close_matches(why, MEANING, 3)
            perhaps = f"perhaps {' or '.join(near)}; " if near else ""
            raise UserError(
                f"--why {why}",
                "there is no such reason",
                f"{perhaps}those of this run: codeio rejected {folder}; docs/reasons.md has all",
            )
    return {"run": str(folder), "why": why, "counts": table, "rows": chosen}


def _with_origin(rows: list[Row], above: _Level, shard: int) -> list[Row]:
    """The rejected rows with where they come from."""
    ids = {row["parent_id"] or row["row_id"] for row in rows}
    origins = {row[above.table.id]: row for row in _rows_with(above, shard, ids)} if ids else {}
    return [{**row, "of": _origin(origins.get(row["parent_id"] or row["row_id"], {}))} for row in rows]


def _origin(row: Row) -> str:
    return " ".join(str(row[name]) for name in ("path", "name") if row.get(name))


def _order(levels: list[_Level], stage: str) -> int:
    return next(number for number, level in enumerate(levels) if level.stage == stage)


def rejected_text(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = _count_lines(found["counts"], grouped=found["why"] is None)
    if found["why"] is None:
        return "\n".join([*lines, "candidates: what was made of an input row and left. Rows of a reason: --why REASON"])
    lines.append(f"{found['why']}: {meaning_of(found['why'])}".rstrip(": "))
    total, shown = sum(entry["count"] for entry in found["counts"]), len(found["rows"])
    if not total:
        return "\n".join([*lines, "no row of this run was dropped for it"])
    for row in found["rows"]:
        lines.append(_column(row["row_id"], f"{row['reason']}  {row['of']}  {row['detail']}".rstrip()))
    lines.append(f"{shown:,} of {total:,} rows" + (f": more with --limit {total}" if shown < total else ""))
    if shown:
        lines.append(f"all about one: codeio show {found['run']} {found['rows'][0]['row_id']}")
    return "\n".join(lines)


def _count_lines(counts: list[dict[str, Any]], grouped: bool) -> list[str]:
    """A table: reasons as they are, the most frequent ones; or, grouped, all of them up to their colons."""
    merged: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for entry in counts:
        reason = entry["reason"].partition(":")[0] if grouped else entry["reason"]
        merged[entry["stage"], reason][entry["kind"]] += entry["count"]
    order = {stage: number for number, stage in enumerate(dict.fromkeys(entry["stage"] for entry in counts))}
    told = sorted(merged.items(), key=lambda item: (order[item[0][0]], -item[1].total()))
    lines = [f"  {'stage':<12}{'reason':<28}{'rows':>10}{'candidates':>12}"]
    for (stage, reason), kinds in told[: None if grouped else _REASONS]:
        numbers = "".join(
            f"{kinds[kind]:>{width},}" if kind in kinds else " " * width
            for kind, width in (("rows", 10), ("candidates", 12))
        )
        lines.append(f"  {stage:<12}{reason:<28}{numbers}".rstrip())
    if not grouped and len(told) > _REASONS:
        lines.append(f"  … {len(told) - _REASONS} more of them, all with --json")
    return lines
