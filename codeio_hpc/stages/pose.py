"""pose: write the questions about a pair, one for predicting its output and one for predicting an input."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from codeio_hpc.config import RunConfig, load_yaml
from codeio_hpc.stages.base import Context, MapStage, Rejection, derive
from codeio_hpc.stages.difficulty import difficulty
from codeio_hpc.tables import Row, Table
from codeio_hpc.tables.schemas import INSTANCES, PAIRS


@cache
def _prompts() -> dict[str, Any]:
    return load_yaml(Path(__file__).parent / "prompts" / "pose.yaml")


class Pose(MapStage):
    """The same prompt serves for asking a teacher, for training and for evaluation."""

    name: ClassVar[str] = "pose"
    version: ClassVar[int] = 2
    input: ClassVar[Table] = PAIRS
    output: ClassVar[Table] = INSTANCES

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {**config.pose.model_dump(mode="json"), "prompts": _prompts()}

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        settings = context.config.pose
        for row in rows:
            yield from _instances(row, settings.directions, settings.prompt)


def _instances(row: Row, directions: Sequence[str], mode: str) -> Iterator[Row | Rejection]:
    if "constant" in row["flags"]:
        # any input is right where every output is the same: such a question teaches nothing
        directions = [direction for direction in directions if direction == "output"]
    if not directions:
        yield Rejection(row["pair_id"], "constant", "every input gives this output")
    version = f"{_prompts()['version']}/{mode}"
    for direction in directions:
        prompt = write_prompt(row, direction, mode)
        yield derive(
            INSTANCES,
            row,
            instance_id=INSTANCES.row_id(row["pair_id"], direction, version, prompt),
            direction=direction,
            prompt=prompt,
            prompt_version=version,
            difficulty=difficulty(row, direction),
        )


def write_prompt(row: Mapping[str, Any], direction: str, mode: str) -> str:
    """The question about a pair, in the given prompt mode."""
    texts = _prompts()
    parts = [texts["parts"][name] for name in texts["modes"][mode]]
    given = row["input"] if direction == "output" else row["output"]
    fields = {
        "question": row["question"],
        "io_description": row["io_description"],
        "code": row["code"].strip(),
        "value": given,
        "answer": answer_form(row["input"], direction),
    }
    # format fields are filled once, so braces in the code or the values stay as they are
    return "".join(part.format(**fields) for part in [*parts, texts["ask"][direction]]).strip()


def answer_form(input_text: str, direction: str) -> str:
    """How the answer is to be written: the keys, with an ellipsis for each value."""
    if direction == "output":
        return '{"output": …}'
    keys = ", ".join(f"{json.dumps(name)}: …" for name in json.loads(input_text))
    return f'{{"input": {{{keys}}}}}'
