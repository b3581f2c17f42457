"""revise: tell a wrong answer what its execution showed, and ask again (CodeI/O++)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from codeio_hpc.config import RunConfig, load_yaml
from codeio_hpc.stages.base import Context, MapStage, Rejection, derive
from codeio_hpc.tables import Row, Table
from codeio_hpc.tables.schemas import CONVERSATIONS, VERDICTS
from codeio_hpc.teachers import NoAnswerError, Request, Teacher, make_teacher
from codeio_hpc.teachers.asking import ask
from codeio_hpc.teachers.journal import Journal
from codeio_hpc.teachers.judge import judge


@cache
def _texts() -> dict[str, Any]:
    return load_yaml(Path(__file__).parent / "prompts" / "revise.yaml")


class Revise(MapStage):
    """One more turn as long as the last one was wrong and turns are left; a row passes through in any case."""

    name: ClassVar[str] = "revise"
    version: ClassVar[int] = 3
    input: ClassVar[Table] = VERDICTS
    output: ClassVar[Table] = CONVERSATIONS

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        teacher = config.teacher.model_dump(mode="json", exclude={"journal"})
        judging = [config.verify.equality, [tier.size.model_dump() for tier in config.sample.tiers]]
        return {**config.revise.model_dump(mode="json"), "teacher": teacher, "judging": judging, "texts": _texts()}

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        teacher = make_teacher(context.config.teacher, context.pool, context.random)
        with Journal(context.journal) as journal:
            for row in rows:
                turns = _turns(row, teacher, journal, context)
                yield derive(
                    CONVERSATIONS,
                    row,
                    conversation_id=CONVERSATIONS.row_id(row["verdict_id"], *(turn["response"] for turn in turns)),
                    turns=turns,
                )


def _turns(row: Row, teacher: Teacher, journal: Journal, context: Context) -> list[dict[str, Any]]:
    turns = [{name: row[name] for name in ("response", "category", "feedback", "prediction")}]
    messages = [{"role": "user", "content": row["prompt"]}]
    for number in range(2, context.config.revise.turns + 2):
        last = turns[-1]
        if last["category"] == "correct":
            break
        messages.append({"role": "assistant", "content": last["response"]})
        messages.append({"role": "user", "content": _texts()["again"].format(feedback=last["feedback"])})
        try:
            response = ask(teacher, Request(row, tuple(messages), turn=number), journal)
        except NoAnswerError as error:
            context.counts[f"turn{number}:{error.reason}"] += 1
            break
        judgement = judge(row, response, context.pool(0), context.config)
        context.counts[f"turn{number}:{row['direction']}:{judgement.category}"] += 1
        turns.append(
            {
                "response": response,
                "category": judgement.category,
                "feedback": judgement.feedback,
                "prediction": judgement.prediction,
            }
        )
    return turns
