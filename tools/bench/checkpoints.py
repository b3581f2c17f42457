"""Checkpoints: how long training waits when they are written beside it, and when it waits for the disk.

    python tools/bench/checkpoints.py [--millions 20 200] [--rounds 3] [--folder DIR]

A random model of so many million parameters, in float32 with its optimiser's state, one rank, the saver of training.
Each number is the least of the rounds, with one step of training in between.

  waits     until training goes on: the state is copied to the host's memory
  written   until the checkpoint is published: written, hashed, put on disk, renamed (what a synchronous save waits for)
  read      until the state is back: hash checked, loaded
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import training  # beside this file

LAYERS = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--millions", type=float, nargs="+", default=[20, 200], help="parameters")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the file system to measure (default: a temporary one)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ranks = training.meet_alone()
    rows = []
    for millions in options.millions:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rows.append(measure(millions, options.rounds, Path(folder), ranks))
            print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps(rows, indent=1) if options.json else table(rows))
    return 0


def measure(millions: float, rounds: int, folder: Path, ranks: Any) -> dict[str, float]:
    from codeio_hpc.train.checkpoints import resume
    from codeio_hpc.train.checkpoints.random import RandomState
    from codeio_hpc.train.checkpoints.saver import Rules, Saver
    from codeio_hpc.train.engines.deepspeed import DeepSpeedEngine

    options = bench_options(millions)
    recipe = training.make_recipe(options)
    engine = DeepSpeedEngine(
        training.make_model(options, ranks.device), recipe, recipe.stage("stage1"), options.dtype, ranks.device
    )
    saver = Saver(Rules(folder, "bench", "", 1, None), engine, ranks)
    micro = one_micro_batch(options)
    found: dict[str, list[float]] = {"waits": [], "written": [], "read": []}
    for step in range(1, rounds + 1):
        engine.accumulate(micro, 64, True)
        engine.update(1e-4)
        start = time.monotonic()
        saver.begin(step, RandomState.now(), 0, 0, None)
        found["waits"].append(time.monotonic() - start)
        saver.finish()
        found["written"].append(time.monotonic() - start)
    start = time.monotonic()
    newest = resume.find(folder, "bench", {}, ranks)
    assert newest is not None
    engine.load(newest[0])
    found["read"].append(time.monotonic() - start)
    saver.close()
    parameters = engine.parameter_count
    engine.close()
    return {"parameters": parameters, "bytes": newest[1].bytes} | {name: min(times) for name, times in found.items()}


def bench_options(millions: float) -> argparse.Namespace:
    """A model of about that size: 12 width² a layer, and 2,048 tokens twice."""
    width = int((millions * 1e6 / (12 * LAYERS)) ** 0.5) // 64 * 64
    training.MODELS["bench"] = {"hidden_size": width, "intermediate_size": width * 8 // 3, "vocab_size": 2048} | {
        "num_hidden_layers": LAYERS,
        "num_attention_heads": width // 64,
        "num_key_value_heads": width // 64,
    }
    options = argparse.Namespace(model="bench", dtype="float32", attention="sdpa", length=128, sample=128, steps=1)
    options.micro_batch, options.micro_batches, options.checkpointing = 1, 1, False
    return options


def one_micro_batch(options: argparse.Namespace) -> Any:
    import numpy as np

    from codeio_hpc.train.collate import collate

    return collate(training.make_corpus(options), np.array([0]), 0)


def table(rows: list[dict[str, float]]) -> str:
    lines = ["parameters    checkpoint    waits   written   ratio    read    written at"]
    for row in rows:
        size, waits, written = row["bytes"] / 1e6, row["waits"], row["written"]
        lines.append(
            f"{row['parameters'] / 1e6:8.1f} M {size:10,.0f} MB {waits:7.3f} s {written:7.3f} s {written / waits:6.1f} "
            f"{row['read']:7.3f} s {size / written:8,.0f} MB/s"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
