"""assemble: make training samples, CodeI/O or CodeI/O++, as chat messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

from codeio_hpc.config import RunConfig, load_yaml, settings_hash
from codeio_hpc.config.run import AssembleSettings
from codeio_hpc.stages.base import Context, MapStage, Rejection, derive
from codeio_hpc.stages.prompting import prompt_texts, write_prompt
from codeio_hpc.tables import Row, Table
from codeio_hpc.tables.schemas import CONVERSATIONS, SAMPLES

_ROUNDING = 1e-3
"""So that a sixth, written as 0.166667, is one pair of six and not two."""


@cache
def _texts() -> dict[str, Any]:
    return load_yaml(Path(__file__).parent / "prompts" / "assemble.yaml")


class Assemble(MapStage):
    """CodeI/O keeps the first response, right or wrong. CodeI/O++ puts all turns and what the execution said of them
    into one message. ``instructions: direct-answers`` adds the bare executed answer as a stage-2 sample.

    Which instances are used, and in what form, is for the settings to say; so every ablation of the paper is a choice
    made here, after the teacher was paid. Rejects: left_out (the source), direction, pairs_fraction, fraction, wrong.
    """

    name: ClassVar[str] = "assemble"
    version: ClassVar[int] = 3
    input: ClassVar[Table] = CONVERSATIONS
    output: ClassVar[Table] = SAMPLES

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        texts = {"assemble": _texts(), "prompts": prompt_texts()}
        return {"seed": config.seed, **config.assemble.model_dump(mode="json"), "texts": texts}

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        settings = context.config.assemble
        for row in rows:
            reason = _unwanted(row, settings, context.config.seed)
            if reason is not None:
                yield Rejection(row["conversation_id"], *reason)
                continue
            prompt = row["prompt"]
            if settings.prompt is not None or settings.response != "cot":
                prompt = write_prompt(row, row["direction"], settings.prompt or "question", _asked(row, settings))
            yield _sample(row, "stage1", settings.format, prompt, _response(row, settings))
            if settings.instructions == "direct-answers":
                yield _sample(row, "stage2", "direct-answers", row["prompt"], direct_answer(row))


def _unwanted(row: Row, settings: AssembleSettings, seed: int) -> tuple[str, str] | None:
    """Reason and detail, where the settings leave the instance out."""
    if row["source"] in settings.leave_out:
        return "left_out", f"the source {row['source']}"
    if row["direction"] not in settings.directions:
        return "direction", row["direction"]
    if row["direction"] != "function" and row["position"] >= ceil(settings.pairs_fraction * row["pairs"] - _ROUNDING):
        return "pairs_fraction", f"pair {row['position'] + 1} of {row['pairs']}"
    draw = int(settings_hash([seed, "assemble", "fraction", row["instance_id"]])[:13], 16) / 16**13
    if draw >= settings.fraction:
        return "fraction", f"not in the share of {settings.fraction:g}"
    if settings.wrong == "drop" and not _is_right(row, settings):
        return "wrong", _counting_turn(row, settings)["category"]
    return None


def _counting_turn(row: Row, settings: AssembleSettings) -> Mapping[str, Any]:
    turn: Mapping[str, Any] = row["turns"][0 if settings.format == "codeio" else -1]
    return turn


def _is_right(row: Row, settings: AssembleSettings) -> bool:
    return bool(_counting_turn(row, settings)["category"] == "correct")


def _asked(row: Row, settings: AssembleSettings) -> str:
    """What the prompt asks for: an induction question asks for code in any case."""
    return "cot" if row["direction"] == "function" else settings.response


def _response(row: Row, settings: AssembleSettings) -> str:
    if settings.wrong == "ground-truth" and not _is_right(row, settings):
        text = direct_answer(row)
    else:
        text = codeio(row["turns"]) if settings.format == "codeio" else codeio_plus_plus(row["turns"])
    asked = _asked(row, settings)
    if asked == "code":
        return code_block(row)
    return f"{code_block(row)}\n\n{text}" if asked == "code+cot" else text


def code_block(row: Mapping[str, Any]) -> str:
    """The reference code as a fenced block."""
    return f"```python\n{row['code'].strip()}\n```"


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
    """The executed value in the answer's form (or the reference code), without a word of reasoning."""
    if row["direction"] == "function":
        return code_block(row)
    return f'{{"{row["direction"]}": {row[row["direction"]]}}}'


def _sample(row: Row, training_stage: str, form: str, prompt: str, text: str) -> Row:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
    return derive(
        SAMPLES,
        row,
        sample_id=SAMPLES.row_id(row["conversation_id"], training_stage, form, prompt, text),
        source_id=None,
        training_stage=training_stage,
        format=form,
        messages=messages,
        category=row["turns"][-1]["category"],
        turns=len(row["turns"]),
        repeats=1,
    )
