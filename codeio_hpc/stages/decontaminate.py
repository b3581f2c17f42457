"""decontaminate: which benchmark items stand in the training data, by runs of 13 words; such rows are flagged, or
dropped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from codeio_hpc.config.run import DecontaminateSettings, RunConfig
from codeio_hpc.stages.base import Context, GatherStage, Rejection
from codeio_hpc.stages.benchmarks import Index, fingerprint, make_index
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import CONVERSATIONS, SAMPLES, Table


class Decontaminate(GatherStage):
    """The method of arXiv 2502.07316: a benchmark item is contaminated if it shares a run of 13 words, punctuation,
    digits and white space aside, with the prompt or a response of any row.

    A row that does gets the flag ``contaminated``, or with ``remove`` is rejected as ``contaminated``; the detail names
    the benchmarks.
    """

    name: ClassVar[str] = "decontaminate"
    version: ClassVar[int] = 1
    input: ClassVar[Table] = CONVERSATIONS
    output: ClassVar[Table] = CONVERSATIONS

    def texts(self, row: Row) -> Sequence[str]:
        """What is compared with the benchmarks."""
        return [row["prompt"], *(turn["response"] for turn in row["turns"])]

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        settings = config.decontaminate
        files = [[each.name, list(each.columns or ()), fingerprint(each)] for each in settings.benchmarks]
        return {"benchmarks": files, "words": settings.words, "remove": settings.remove}

    def sketch(self, rows: Sequence[Row], context: Context) -> dict[str, Any]:
        """{"rows": {row's id: names of the benchmarks that it meets}, "items": {benchmark: numbers of its items that
        some row meets}}."""
        settings = context.config.decontaminate
        index = _index(settings, tuple(map(fingerprint, settings.benchmarks)))
        met: dict[str, list[str]] = {}
        items: dict[str, set[int]] = defaultdict(set)
        for row in rows:
            hits = index.hits(self.texts(row))
            if hits:
                met[row[self.input.id]] = sorted({index.names[benchmark] for benchmark, _ in hits})
            for benchmark, item in hits:
                items[index.names[benchmark]].add(item)
        return {"rows": met, "items": {name: sorted(found) for name, found in items.items()}}

    def decide(self, sketches: Iterator[dict[str, Any]], context: Context) -> list[dict[str, Any]]:
        """For each benchmark {"name", "items", "short": items of too few words, "found": numbers of contaminated items,
        "rate": their share}."""
        settings = context.config.decontaminate
        index = _index(settings, tuple(map(fingerprint, settings.benchmarks)))
        found: dict[str, set[int]] = defaultdict(set)
        for sketch in sketches:
            for name, items in sketch["items"].items():
                found[name].update(items)
        return [
            {
                "name": name,
                "items": items,
                "short": short,
                "found": sorted(found[name]),
                "rate": len(found[name]) / items if items else 0.0,
            }
            for name, items, short in zip(index.names, index.items, index.short, strict=True)
        ]

    def apply(
        self, rows: Sequence[Row], sketch: dict[str, Any], decision: Any, context: Context
    ) -> Iterable[Row | Rejection]:
        for row in rows:
            names = sketch["rows"].get(row[self.input.id], [])
            context.counts.update(f"rows:{name}" for name in names)
            if names and context.config.decontaminate.remove:
                yield Rejection(row[self.input.id], "contaminated", f"shares words with {', '.join(names)}")
            else:
                flags = [*row["flags"], *(["contaminated"] if names and "contaminated" not in row["flags"] else [])]
                yield {**row, "flags": flags}


class DecontaminateSamples(Decontaminate):
    """The same of imported samples: with every message, or the whole document."""

    input: ClassVar[Table] = SAMPLES
    output: ClassVar[Table] = SAMPLES

    def texts(self, row: Row) -> Sequence[str]:
        return [message["content"] for message in row["messages"]]


@lru_cache(maxsize=2)
def _index(settings: DecontaminateSettings, fingerprints: tuple[str, ...]) -> Index:
    """Made once in a process, for as long as the files stay the same."""
    return make_index(settings.benchmarks, settings.words)
