"""answer: ask the teacher each question once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from codeio_hpc.config import RunConfig
from codeio_hpc.stages.base import Context, MapStage, Rejection, Resource, derive
from codeio_hpc.tables import Row, Table
from codeio_hpc.tables.schemas import ANSWERS, INSTANCES
from codeio_hpc.teachers import NoAnswerError, Request, make_teacher
from codeio_hpc.teachers.asking import ask
from codeio_hpc.teachers.journal import Journal


class Answer(MapStage):
    """Held-out functions are not asked about: they are for evaluation only."""

    name: ClassVar[str] = "answer"
    version: ClassVar[int] = 2
    input: ClassVar[Table] = INSTANCES
    output: ClassVar[Table] = ANSWERS
    resource: ClassVar[Resource] = "teacher"

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return config.teacher.model_dump(mode="json", exclude={"journal"})

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        teacher = make_teacher(context.config.teacher, context.pool, context.random)
        with Journal(context.journal) as journal:
            for row in rows:
                if row["split"] == "heldout":
                    yield Rejection(row["instance_id"], "heldout", "kept for evaluation")
                    continue
                request = Request(row, ({"role": "user", "content": row["prompt"]},), turn=1)
                try:
                    response = ask(teacher, request, journal)
                except NoAnswerError as error:
                    yield Rejection(row["instance_id"], error.reason, error.detail)
                    continue
                yield derive(
                    ANSWERS,
                    row,
                    answer_id=ANSWERS.row_id(row["instance_id"], teacher.name, response),
                    response=response,
                    teacher=teacher.name,
                    sampling=json.dumps(dict(teacher.sampling), sort_keys=True),
                )
