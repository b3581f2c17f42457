"""What the page shows, gathered from the run folder."""

from __future__ import annotations

import ast
import json
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.evaluate.run import with_questions
from codeio_hpc.launch.attempts import StageTotals, read_attempts
from codeio_hpc.launch.plan import Place, places
from codeio_hpc.launch.run import Run, source_rows
from codeio_hpc.launch.status import unit_of
from codeio_hpc.tables import Row
from codeio_hpc.tables.reasons import meaning_of
from codeio_hpc.tables.schemas import SAMPLES
from codeio_hpc.tables.shards import part_path, published_shards, read_footer, read_rejected, read_shard

_BROWSED = 60
_EXAMPLES = 3
_RAW = 4_000
"""Characters of a raw file that the page holds."""
_REASONS = 8


def _place(run: Run, stage: str) -> Place | None:
    return next((place for place in places(run) if place.stage.name == stage), None)


def funnel(run: Run) -> list[dict[str, Any]]:
    """Rows of every table on the way, with the width of their bar in percent."""
    rows: list[dict[str, Any]] = [{"name": unit_of(run.config), "stage": "", "rows": source_rows(run)}]
    for place in places(run):
        footers = [read_footer(part_path(place.folder, shard)) for shard in published_shards(place.folder)]
        count = sum(footer.rows for footer in footers if footer)
        handed_on = place.stage.output is place.stage.input
        name = f"{place.stage.output.name} after {place.stage.name}" if handed_on else place.stage.output.name
        rows.append({"name": name, "stage": place.stage.name, "rows": count})
    most = max(row["rows"] for row in rows) or 1
    return [{**row, "share": 100 * row["rows"] / most} for row in rows]


def rejections(run: Run) -> list[dict[str, Any]]:
    """The most frequent reasons of each stage, {"name", "count", "meaning"}, and how many rows have others; input rows
    and candidates apart."""
    result = []
    for place in places(run):
        own: Counter[str] = Counter()
        candidates: Counter[str] = Counter()
        for shard in published_shards(place.folder):
            for row in read_rejected(place.folder, shard):
                reason = row["reason"].split(":")[0]
                (own if row["parent_id"] is None else candidates)[reason] += 1
        for kind, counts in (("rows", own), ("candidates", candidates)):
            if counts:
                most = counts.most_common(_REASONS)
                others = counts.total() - sum(count for _, count in most)
                top = [{"name": name, "count": count, "meaning": meaning_of(name)} for name, count in most]
                result.append(
                    {"stage": place.stage.name, "kind": kind, "total": counts.total(), "reasons": top, "others": others}
                )
    return result


def stage_times(run: Run) -> list[dict[str, Any]]:
    """Wall and CPU seconds of each stage over all attempts, in the order of the stages."""
    all_totals: dict[str, StageTotals] = defaultdict(StageTotals)
    for attempt in read_attempts(run.folder):
        for stage, totals in attempt.stages.items():
            all_totals[stage].add(totals)
    most = max((totals.seconds for totals in all_totals.values()), default=0) or 1
    return [
        {
            "stage": stage,
            "wall": totals.seconds,
            "cpu": totals.cpu_seconds,
            "share": 100 * totals.seconds / most,
            "counts": sorted(totals.counts.items()),
        }
        for stage, totals in all_totals.items()
    ]


def evaluation(run: Run) -> dict[str, Any] | None:
    """The evaluation's summary; None if it has not run."""
    try:
        summary: dict[str, Any] = json.loads((run.folder / "evaluation" / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary


def never_evaluated(run: Run) -> str | None:
    """Why the run has no held-out functions and cannot be evaluated; None where it can."""
    try:
        with_questions(run)
    except UserError as error:
        return f"{error.found}: {error.why}"
    return None


def samples(run: Run) -> list[dict[str, Any]]:
    """Rows to look at: conversations with their raw files, or finished samples where the run made no conversations."""
    return _conversations(run) if run.config.sources else _finished_samples(run)


def _finished_samples(run: Run) -> list[dict[str, Any]]:
    """Of evenly spread shards, evenly spread samples in their last form."""
    place = next(place for place in reversed(places(run)) if place.stage.output is SAMPLES)
    shards = _spread(published_shards(place.folder), 20)
    each = _BROWSED // max(1, len(shards))
    chosen = (row for shard in shards for row in _spread(read_shard(part_path(place.folder, shard)), each))
    columns = ("sample_id", "training_stage", "source", "path", "licence", "format", "flags", "tags", "repeats")
    return [
        {name: row[name] for name in columns}
        | {"messages": [{**message, "content": _cut(message["content"])} for message in row["messages"]]}
        for row in chosen
    ]


def _spread(items: list[Any], most: int) -> list[Any]:
    """At most so many of them, evenly spread."""
    return items[:: max(1, -(-len(items) // most))]


def _conversations(run: Run) -> list[dict[str, Any]]:
    """Conversations to look at, each with its raw file: of evenly spread shards, revised ones and right ones."""
    place, collect, assemble = _place(run, "revise"), _place(run, "collect"), _place(run, "assemble")
    if place is None or collect is None or assemble is None:
        return []
    found: list[dict[str, Any]] = []
    shards = published_shards(place.folder)
    for shard in shards[:: max(1, len(shards) // 20)]:
        rows = read_shard(part_path(place.folder, shard))
        revised = [row for row in rows if len(row["turns"]) > 1]
        plain = [row for row in rows if len(row["turns"]) == 1]
        chosen = revised[:: max(1, len(revised) // 2)][:2] + plain[:: max(1, len(plain) // 2)][:2]
        files = {row["file_id"]: row for row in read_shard(part_path(collect.folder, shard))} if chosen else {}
        made = _samples_of(part_path(assemble.folder, shard)) if chosen else {}
        found += [
            {key: row[key] for key in _SHOWN}
            | _origin(files[row["file_id"]])
            | {"sample_ids": made.get(row["conversation_id"], [])}
            for row in chosen
        ]
    return found[:_BROWSED]


def _samples_of(path: Path) -> dict[str, list[str]]:
    """Ids of the samples that were made of each conversation of a shard, if they are made yet."""
    made: dict[str, list[str]] = defaultdict(list)
    for row in read_shard(path) if path.exists() else []:
        made[row["conversation_id"]].append(row["sample_id"])
    return made


_SHOWN = (
    *("file_id", "function_id", "pair_id", "instance_id", "conversation_id", "source", "path", "licence", "name"),
    *("direction", "question", "code", "input", "output", "examples", "turns", "tags", "flags", "difficulty"),
    *("coverage", "steps", "split", "prompt"),
)


def _origin(file: Row) -> dict[str, str]:
    return {"raw": _cut(file["content"]), "provenance": file["provenance"]}


def _cut(text: str) -> str:
    return text if len(text) <= _RAW else f"{text[:_RAW]}\n… (cut: {len(text):,} characters in all)"


def rejected_examples(run: Run) -> list[dict[str, Any]]:
    """For each stage and reason the first few rows that were dropped, with what they were made from, what the reason
    means, and how many rows it has."""
    found: list[dict[str, Any]] = []
    for place in places(run):
        seen: Counter[str] = Counter()
        begin = len(found)
        for shard in published_shards(place.folder):
            wanted = []
            for row in read_rejected(place.folder, shard):
                seen[row["reason"]] += 1
                if seen[row["reason"]] <= _EXAMPLES:
                    wanted.append(row)
            if wanted:
                inputs = {row[place.stage.input.id]: row for row in read_shard(part_path(place.input_folder, shard))}
                found += [_example(row, inputs[row["parent_id"] or row["row_id"]]) for row in wanted]
        for example in found[begin:]:
            example["total"] = seen[example["reason"]]
    return found


def _example(rejected: Row, origin: Row) -> dict[str, Any]:
    column = next((name for name in ("code", "content", "prompt") if origin.get(name)), None)
    text = origin[column] if column else ""
    what = {"code": "the code of its function", "content": "its raw file", "prompt": "its prompt"}.get(column or "", "")
    if column == "content" and rejected["parent_id"] and (found := _definition(text, rejected["detail"])):
        text, what = found, "the function in its raw file"
    return {
        **{key: rejected[key] for key in ("row_id", "parent_id", "stage", "reason", "detail")},
        "meaning": meaning_of(rejected["reason"]),
        "source": origin.get("source", ""),
        "path": origin.get("path", ""),
        "provenance": origin.get("provenance", "{}"),
        "what": what,
        "text": _cut(text),
    }


def _definition(content: str, detail: str) -> str | None:
    """The lines of the function or method that a candidate's detail names first, numbered as in the file."""
    names = detail.partition(":")[0].split(".")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            nodes: list[ast.stmt] = ast.parse(content).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    node: ast.stmt | None = None
    for name in names:
        node = next((one for one in nodes if getattr(one, "name", None) == name), None)
        if node is None:
            return None
        nodes = getattr(node, "body", [])
    if node is None:
        return None
    lines = content.split("\n")
    return "\n".join(f"{number:4} {lines[number - 1]}" for number in range(node.lineno, (node.end_lineno or 0) + 1))
