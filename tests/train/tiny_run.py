"""A run folder with a few packed sequences and a recipe of seconds, and how to train it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from codeio_hpc.config import RunConfig, settings_hash
from codeio_hpc.config.recipe import TRAINING_STAGES
from codeio_hpc.stages.tokenise import Tokenise
from codeio_hpc.tables import Identity
from codeio_hpc.tables.manifest import Manifest, create_manifest
from codeio_hpc.tables.schemas import SEQUENCES
from codeio_hpc.tables.shards import publish_shard
from codeio_hpc.train.world import free_port

MODEL = Path(__file__).parents[2] / "configs" / "models" / "tiny"
LENGTH = 48

RECIPE = """
name: test
model: {model}
initial: random
sequence_length: {length}
{settings}
stages:
  stage1: {{schedule: constant, lr: 3.0e-3, batch_size: 10, batch_unit: samples, micro_batch: 1, steps: {steps},
           keep: 2{stage}}}
  stage2: {{schedule: cosine, lr: 1.0e-3, min_lr: 1.0e-4, batch_size: 4, batch_unit: sequences, micro_batch: 2,
           steps: 6}}
  rft: {{schedule: cosine, lr: 1.0e-3, batch_size: 4, batch_unit: sequences, micro_batch: 2, steps: 2}}
"""


def sequence(number: int, training_stage: str, length: int = LENGTH) -> dict[str, Any]:
    """Samples that count upwards, at most ``length`` tokens of them; the second half of each is trained."""
    chance = random.Random(f"{training_stage}{number}")
    samples = []
    while sum(map(len, samples)) + 12 <= length:
        first = chance.randrange(10, 60)
        samples.append([1, *range(first, first + chance.randrange(6, 10)), 2])
    tokens = [token for sample in samples for token in sample]
    trained = [index >= len(sample) // 2 for sample in samples for index in range(len(sample))]
    return {
        "sequence_id": f"q{training_stage}{number}",
        "sample_ids": [f"s{number}.{index}" for index in range(len(samples))],
        "language": "python",
        "training_stage": training_stage,
        "input_ids": tokens,
        "trained": trained,
        "starts": [0, *accumulate(len(sample) for sample in samples[:-1])],
        "difficulty": float(number * 7 % 16),
    }


def make_run(
    folder: Path, steps: int = 12, settings: str = "", stage: str = "", model: Path = MODEL, **of_the_run: Any
) -> Path:
    """A complete run folder, as training sees it: two shards, both training stages.

    ``settings``: further lines of the recipe; ``stage``: further settings of its stage 1; ``of_the_run``: see
    :func:`write_run`.
    """
    stage = stage if "save_every" in stage else f"{stage}, save_every: 4"
    recipe = RECIPE.format(model=model, length=LENGTH, steps=steps, settings=settings, stage=stage)
    return write_run(folder, recipe, **of_the_run)


def write_run(
    folder: Path,
    recipe_text: str,
    length: int = LENGTH,
    sequences: int = 8,
    stages: Sequence[str] = TRAINING_STAGES,
    **settings: Any,
) -> Path:
    """A complete run folder with that recipe, and further ``settings``: two shards, each with so many sequences of
    every one of these training stages."""
    recipe = folder / "recipe.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    recipe.write_text(recipe_text, encoding="utf-8")
    config = RunConfig.model_validate(
        {
            "name": "t",
            "seed": 3,
            "sources": [{"name": "here", "stdlib": True}],
            "recipe": str(recipe),
            "tokenise": {"max_tokens": length},
            **settings,
        }
    )
    run = folder / "run"
    create_manifest(run, Manifest(config.model_dump(mode="json"), "i", "v", 2, "s"))
    stage = Tokenise()
    made_with = settings_hash([config.seed, stage.name, dict(stage.settings(config))])
    for shard in range(2):
        numbers = range(shard * sequences, (shard + 1) * sequences)
        rows = [sequence(number, name, length) for name in stages for number in numbers]
        identity = Identity(SEQUENCES, stage.name, stage.version, made_with, "input", shard)
        publish_shard(run / "stages" / "11-tokenise", identity, rows, [])
    return run


def start(run: Path, stage: str = "stage1", ranks: int | None = 2, **variables: str) -> subprocess.Popen[str]:
    """Start ``codeio train`` with further variables; both outputs are kept in a file beside the run."""
    command = [sys.executable, "-m", "codeio_hpc", "train", str(run), "--stage", stage]
    command += [] if ranks is None else ["--ranks", str(ranks)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"} | variables
    with open(run.parent / "output.txt", "a", encoding="utf-8") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment, text=True)


def start_each(run: Path, ranks: int, program: str | None = None) -> list[subprocess.Popen[str]]:
    """Start the ranks one by one, as a cluster does: they have no parent in common that ends them.

    ``program``: a file beside this one that stands for ``codeio``.
    """
    codeio = [str(Path(__file__).with_name(program))] if program else ["-m", "codeio_hpc"]
    command = [sys.executable, *codeio, "train", str(run), "--stage", "stage1"]
    meeting = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    meeting |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    with open(run.parent / "output.txt", "a", encoding="utf-8") as output:
        return [
            subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                text=True,
            )
            for rank in range(ranks)
        ]


def train_each(run: Path, ranks: int, program: str | None = None, timeout: float = 200) -> str:
    """Train to the end with ranks that were started one by one; all output of the run so far."""
    codes = [process.wait(timeout=timeout) for process in start_each(run, ranks, program)]
    output = (run.parent / "output.txt").read_text(encoding="utf-8")
    assert codes == [0] * ranks, output
    return output


def train(run: Path, stage: str = "stage1", ranks: int = 2) -> tuple[int, str]:
    """Train to the end: exit code and all output of the run so far."""
    code = start(run, stage, ranks).wait(timeout=150)
    return code, (run.parent / "output.txt").read_text(encoding="utf-8")


def metrics(run: Path, stage: str = "stage1") -> list[dict[str, Any]]:
    """The metrics, without the time they took; empty while there are none."""
    path = run / "train" / stage / "metrics.jsonl"
    if not path.exists():
        return []
    whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    lines = [json.loads(line) for line in whole]
    for line in lines:
        line.pop("seconds")
        line["loss"] = float(line["loss"]).hex()
    return lines
