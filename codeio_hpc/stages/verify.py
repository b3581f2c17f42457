"""verify: judge first answers by execution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from codeio_hpc.config import RunConfig
from codeio_hpc.stages.base import Context, MapStage, Rejection, derive
from codeio_hpc.tables import Row, Table
from codeio_hpc.tables.schemas import ANSWERS, VERDICTS
from codeio_hpc.teachers.judge import judge


class Verify(MapStage):
    """Every answer is kept, right or wrong: what is made of it is for ``assemble`` to say."""

    name: ClassVar[str] = "verify"
    version: ClassVar[int] = 2
    input: ClassVar[Table] = ANSWERS
    output: ClassVar[Table] = VERDICTS

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {
            **config.verify.model_dump(mode="json"),
            "sizes": [tier.size.model_dump() for tier in config.sample.tiers],
        }

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        for row in rows:
            judgement = judge(row, row["response"], context.pool(0), context.config)
            context.counts[f"turn1:{row['direction']}:{judgement.category}"] += 1
            yield derive(
                VERDICTS,
                row,
                verdict_id=VERDICTS.row_id(row["answer_id"]),
                category=judgement.category,
                prediction=judgement.prediction,
                feedback=judgement.feedback,
            )
