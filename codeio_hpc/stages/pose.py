"""pose: write the questions about a pair: predict its output, predict an input, or find the function from examples."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from codeio_hpc.config import RunConfig
from codeio_hpc.stages.base import Context, MapStage, Rejection, derive
from codeio_hpc.stages.difficulty import difficulty
from codeio_hpc.stages.prompting import prompt_texts, write_prompt
from codeio_hpc.tables import Row, Table
from codeio_hpc.tables.schemas import INSTANCES, PAIRS

_MOST_SHOWN = 5
_FEWEST_EXAMPLES = 3
"""Pairs that an induction question needs: two that are shown and one that is kept back."""


class Pose(MapStage):
    """The same prompt serves for asking a teacher, for training and for evaluation.

    Where every output is the same, no input is asked for, and no function: any would be right, or none could be found.
    A function's induction question is a child of its first pair.
    """

    name: ClassVar[str] = "pose"
    version: ClassVar[int] = 2
    input: ClassVar[Table] = PAIRS
    output: ClassVar[Table] = INSTANCES

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {**config.pose.model_dump(mode="json"), "prompts": prompt_texts()}

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        settings = context.config.pose
        by_function: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_function[row["function_id"]].append(row)
        for pairs in by_function.values():
            for row in pairs:
                examples = _examples(pairs) if row is pairs[0] else None
                yield from _instances(row, settings.directions, settings.prompt, examples)


def _examples(pairs: Sequence[Row]) -> str | None:
    """JSON {"shown": [[input, output], ...], "hidden": the same}, the values as JSON texts; None of too few pairs."""
    if len(pairs) < _FEWEST_EXAMPLES:
        return None
    shown = min(_MOST_SHOWN, -(-len(pairs) // 2))
    texts = [[pair["input"], pair["output"]] for pair in pairs]
    return json.dumps({"shown": texts[:shown], "hidden": texts[shown:]}, ensure_ascii=False)


def _instances(row: Row, directions: Sequence[str], mode: str, examples: str | None) -> Iterator[Row | Rejection]:
    if "constant" in row["flags"]:
        wanted = [direction for direction in directions if direction == "output"]
    else:
        wanted = [direction for direction in directions if direction != "function" or examples is not None]
    if not wanted and "constant" in row["flags"]:
        yield Rejection(row["pair_id"], "constant", "every input gives this output")
    elif not wanted:
        yield Rejection(
            row["pair_id"], "example", "it has no question of its own: one asks for the function of all pairs"
        )
    version = f"{prompt_texts()['version']}/{mode}"
    for direction in wanted:
        asked = {**row, "examples": examples if direction == "function" else None}
        prompt = write_prompt(asked, direction, mode)
        yield derive(
            INSTANCES,
            asked,
            instance_id=INSTANCES.row_id(row["pair_id"], direction, version, prompt),
            direction=direction,
            prompt=prompt,
            prompt_version=version,
            difficulty=difficulty(row, direction),
        )
