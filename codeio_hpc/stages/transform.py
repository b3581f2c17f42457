"""transform: from a file, the pure functions in it, each self-contained with a question and an input generator."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from codeio_hpc.config.run import RunConfig
from codeio_hpc.stages.base import Context, MapStage, Rejection, SandboxUnavailableError
from codeio_hpc.stages.branches import MEASURED, Reading, measured
from codeio_hpc.stages.static.functions import Choose, FunctionDraft, as_told, drafts
from codeio_hpc.stages.static.module import Refused, parse_module
from codeio_hpc.stages.static.reply import parse_reply, require_named
from codeio_hpc.stages.static.tags import tags_of
from codeio_hpc.stages.static.trial import by_trial
from codeio_hpc.stages.static.unified import UnifiedFunction, finish
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import FILES, FUNCTIONS, Table

_TRIAL_INPUTS = 3
_TRIAL_STEPS = 20_000
"""Conditions and turns of loops that an execution of a trial may have: what decides about a row is no clock."""
_TRIAL_SECONDS = 1.0
"""CPU time of an execution of a trial, for the little that does much in few steps."""


class Transform(MapStage):
    """The ``static`` method: existing pure functions are lifted as they are, without a teacher; functions that come in
    the unified format, or in a language model's reply, are held to the same rules.

    A function that is dropped is a rejected candidate of its file, with one reason; a file from which no function
    comes is rejected itself as ``no_function`` (or ``not_parseable``).
    """

    name: ClassVar[str] = "transform"
    version: ClassVar[int] = 4
    input: ClassVar[Table] = FILES
    output: ClassVar[Table] = FUNCTIONS

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        trial = [_trial_seconds(config), config.sample.memory_mb] if config.transform.trials else None
        return {"seed": config.seed, "trial": trial, **config.transform.model_dump(mode="json")}

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        for row in rows:
            yield from self._file(row, context)

    def _file(self, row: Row, context: Context) -> Iterator[Row | Rejection]:
        try:
            if row["form"] != "file":
                yield self._row(row, _given(row, context))
                context.counts["functions"] += 1
                return
            module = parse_module(row["content"])
        except Refused as refused:
            yield Rejection(row["file_id"], refused.reason, refused.detail)
            return
        kept = dropped = 0
        for draft in drafts(module, context.config.transform, _chooser(row, context)):
            if isinstance(draft, FunctionDraft):
                kept += 1
                yield self._row(row, draft)
            else:
                dropped += 1
                name, reason, detail = draft
                identity = FUNCTIONS.row_id(row["file_id"], name)
                yield Rejection(identity, reason, f"{name}: {detail}" if detail else name, parent_id=row["file_id"])
        context.counts["functions"] += kept
        if not kept:
            yield Rejection(row["file_id"], "no_function", f"none of {dropped} functions can be used")

    def _row(self, row: Row, draft: FunctionDraft) -> Row:
        origin = {name: row[name] for name in ("file_id", "language", "source", "path", "licence")}
        return {
            "function_id": FUNCTIONS.row_id(row["file_id"], draft.name, draft.code),
            **origin,
            **{name: getattr(draft, name) for name in FunctionDraft.__dataclass_fields__},
            "split": "train",
            "tags": tags_of(draft.code, draft.entry_point),
        }


def _given(row: Row, context: Context) -> FunctionDraft:
    """The function that a record holds, in the unified format or as a reply.

    Raises:
        Refused: with the reason; the record itself stays in the files table.
    """
    if row["form"] == "function":
        return finish(UnifiedFunction.from_json(row["content"]), context.config.transform)
    parsed = parse_reply(row["content"])
    draft = finish(parsed.function, context.config.transform)
    require_named(parsed.function, [parameter["name"] for parameter in json.loads(draft.parameters)])
    context.counts.update(f"repaired:{repair}" for repair in parsed.repairs)
    return draft


def _chooser(row: Row, context: Context) -> Choose:
    """Kinds by trial in the sandbox, unless no code is to be run."""
    most = context.config.transform.trials
    if not most:
        return as_told
    return lambda make: by_trial(make, lambda draft: _works(draft, row, context), most)


def _trial_seconds(config: RunConfig) -> float:
    return min(_TRIAL_SECONDS, config.sample.cpu_seconds)


def _works(draft: FunctionDraft, row: Row, context: Context) -> tuple[float, bool]:
    """The share of a few generated inputs for which the function gives a value, and whether these values differ.

    Raises:
        SandboxUnavailableError: the sandbox failed.
    """
    from codeio_hpc.sandbox import FunctionRequest, Generator, Limits, Verdict, dump_json

    memory = context.config.sample.memory_mb * 2**20
    seed = context.seed(f"{row['file_id']}/{draft.name}")
    counted = measured(draft.code, draft.entry_point, _TRIAL_STEPS)
    result = context.pool(0).run(
        FunctionRequest(
            id=f"{row['file_id']}/{draft.name}",
            code=counted.code if counted else draft.code,
            entry_point=MEASURED if counted else draft.entry_point,
            generator=Generator(code=draft.generator, count=_TRIAL_INPUTS, attempts=20, seed=seed),
            kind=draft.kind,
            together=True,
            limits=Limits(cpu_seconds=_trial_seconds(context.config), memory_bytes=memory),
            seed=seed,
        )
    )
    if any(ending.verdict is Verdict.INFRASTRUCTURE for ending in result.results):
        raise SandboxUnavailableError(f"{row['file_id']}, {draft.name}: a trial could not be run")
    context.counts["trials"] += 1
    outputs = [ending.output for ending in result.results if ending.verdict is Verdict.OK]
    if counted:
        readings = map(Reading.of, outputs)
        outputs = [reading.output for reading in readings if not counted.is_given_up(reading)]
    values = [dump_json(output) for output in outputs if output is not None]
    return len(values) / _TRIAL_INPUTS, len(set(values)) > 1
