"""A house of stages for tests: pairs of one small function, and stages run over rows with the engine's account."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from codeio_hpc.config import RunConfig
from codeio_hpc.config.run import Source
from codeio_hpc.launch.worker import settle_account
from codeio_hpc.sandbox import Pool
from codeio_hpc.stages.answer import Answer
from codeio_hpc.stages.base import Context, MapStage
from codeio_hpc.stages.pose import Pose
from codeio_hpc.stages.revise import Revise
from codeio_hpc.stages.verify import Verify

CODE = """def total(values):
    result = 0
    for value in values:
        if value > 0:
            result += value
    return result


def main_solution(values):
    return total(values)
"""


def pair(number: int, split: str = "train", constant: bool = False) -> dict[str, Any]:
    values = [number, -1, 2 * number]
    return {
        "pair_id": f"p{number}",
        "function_id": "fn1",
        "file_id": "f1",
        "language": "python",
        "source": "s",
        "path": "p.py",
        "licence": "MIT",
        "name": "total",
        "code": CODE,
        "entry_point": "main_solution",
        "io_description": "Input:\n  `values` (list of int): some {with braces}.\nOutput:\n  `return` (int): sum.",
        "question": "What is the sum of the positive numbers in `values`?",
        "kind": "plain",
        "split": split,
        "tags": ["iteration"],
        "input": json.dumps({"values": values}, separators=(",", ":")),
        "output": str(sum(value for value in values if value > 0)),
        "position": number,
        "pairs": 10,
        "tier": "standard",
        "flags": ["constant"] if constant else [],
        "steps": 6,
        "coverage": 1.0,
    }


class House:
    """Runs stages over rows, as the engine does, with its account."""

    def __init__(self, config: RunConfig, folder: Path, stack: ExitStack) -> None:
        self.config, self.folder, self.stack = config, folder, stack
        self.pools: dict[int, Pool] = {}
        self.counts: dict[str, dict[str, int]] = {}

    def pool(self, hash_seed: int) -> Pool:
        if hash_seed not in self.pools:
            self.pools[hash_seed] = self.stack.enter_context(Pool(hash_seed=hash_seed))
        return self.pools[hash_seed]

    def run(self, stage: MapStage, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        context = Context(self.config, stage.name, 0, self.pool, self.folder / stage.name / "journal-00000.jsonl")
        result = settle_account(stage.input.id, stage.parent, stage.name, rows, stage.run(rows, context))
        self.counts[stage.name] = dict(context.counts)
        return result

    def conversations(self, pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows = pairs
        for stage in (Pose(), Answer(), Verify(), Revise()):
            rows, _ = self.run(stage, rows)
        return rows


def config(**sections: Any) -> RunConfig:
    return RunConfig.model_validate({"name": "t", "sources": [Source(name="s", stdlib=True)], "seed": 3, **sections})
