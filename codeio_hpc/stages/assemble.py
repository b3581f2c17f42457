"""assemble: make training samples, CodeI/O or CodeI/O++, as chat messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from codeio_hpc.config import RunConfig, load_yaml
from codeio_hpc.stages.base import Context, MapStage, Rejection, derive
from codeio_hpc.tables import Row, Table
from codeio_hpc.tables.schemas import CONVERSATIONS, SAMPLES


@cache
def _texts() -> dict[str, Any]:
    return load_yaml(Path(__file__).parent / "prompts" / "assemble.yaml")


class Assemble(MapStage):
    """CodeI/O keeps the first response, right or wrong. CodeI/O++ puts all turns and what the execution said of them
    into one message. ``instructions: direct-answers`` adds the bare executed answer as a stage-2 sample."""

    name: ClassVar[str] = "assemble"
    version: ClassVar[int] = 1
    input: ClassVar[Table] = CONVERSATIONS
    output: ClassVar[Table] = SAMPLES

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {**config.assemble.model_dump(mode="json"), "texts": _texts()}

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        settings = context.config.assemble
        for row in rows:
            text = codeio(row["turns"]) if settings.format == "codeio" else codeio_plus_plus(row["turns"])
            yield _sample(row, "stage1", settings.format, text)
            if settings.instructions == "direct-answers":
                yield _sample(row, "stage2", "direct-answers", direct_answer(row))


def codeio(turns: Sequence[Mapping[str, Any]]) -> str:
    """The first response alone."""
    return str(turns[0]["response"])


def codeio_plus_plus(turns: Sequence[Mapping[str, Any]]) -> str:
    """Response, what its check said, and the same for each revision, in one text."""
    return "".join(_turn_texts(turns))


def _turn_texts(turns: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    texts = _texts()
    for number, turn in enumerate(turns):
        yield turn["response"] if number == 0 else texts["again"].format(response=turn["response"])
        yield texts["check"].format(feedback=turn["feedback"])


def direct_answer(row: Mapping[str, Any]) -> str:
    """The executed value in the answer's form, without a word of reasoning."""
    return f'{{"{row["direction"]}": {row[row["direction"]]}}}'


def _sample(row: Row, training_stage: str, form: str, text: str) -> Row:
    messages = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": text}]
    return derive(
        SAMPLES,
        row,
        sample_id=SAMPLES.row_id(row["conversation_id"], training_stage, form, text),
        training_stage=training_stage,
        format=form,
        messages=messages,
        category=row["turns"][-1]["category"],
        turns=len(row["turns"]),
    )
