"""How time and memory grow with the rows: the engine, near-duplicates, and overlap with benchmarks.

    python tools/bench/growth.py [engine] [near-duplicates] [overlap] [--rows 10000 100000 1000000]

Each measurement runs in a process of its own; rows are synthetic. ``engine``: collect and three stages that hand every
row on, in shards of 1,000, through listing, publishing, account and a second build that finds nothing to do.
``near-duplicates``: signatures of which 1 % are planted copies. ``overlap``: texts of 120 words against an index of
5,000 benchmark items of 100 words.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from codeio_hpc.config.run import Benchmark, RunConfig
from codeio_hpc.stages.base import Context, MapStage, Rejection
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import FILES, Table

WORDS = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "st", "ck", "ll", "m")]


class Pass(MapStage):
    """Hands every row on."""

    name: ClassVar[str] = "pass"
    version: ClassVar[int] = 1
    input: ClassVar[Table] = FILES
    output: ClassVar[Table] = FILES

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {}

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        yield from rows


def engine(rows: int) -> dict[str, float]:
    from codeio_hpc.launch.build import build_locally
    from codeio_hpc.launch.run import create_or_open_run
    from codeio_hpc.stages import registry
    from codeio_hpc.stages.collect import Collect

    registry.pipeline = lambda config: (Collect(), Pass(), Pass(), Pass())  # type: ignore[assignment]
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
            for number in range(rows):
                file.write(json.dumps({"content": f"def f{number}(n):\n    return n + {number}\n" * 2}) + "\n")
        config = RunConfig.model_validate(
            {
                "name": "bench",
                "sources": [{"name": "rows", "path": str(folder / "rows.jsonl")}],
                "collect": {"files_per_shard": 1000, "near_duplicates": None, "min_bytes": 0},
                "launch": {"workers": 0},
            }
        )
        started = time.monotonic()
        run = create_or_open_run(folder / "run", config)
        listed = time.monotonic()
        build_locally(run, quiet=True)
        built = time.monotonic()
        build_locally(run, quiet=True)
        again = time.monotonic()
        return {
            "listing, µs a row": 1e6 * (listed - started) / rows,
            "four stages, µs a row": 1e6 * (built - listed) / rows,
            "nothing to do, µs a row": 1e6 * (again - built) / rows,
        }
    finally:
        shutil.rmtree(folder)


def near_duplicates(rows: int) -> dict[str, float]:
    from codeio_hpc.stages.near_duplicates import HASHES
    from codeio_hpc.stages.near_duplicates import near_duplicates as find

    chance = np.random.RandomState(0)
    signatures = chance.randint(0, 2**32, (rows, HASHES), dtype=np.uint32)
    planted = rows // 100
    copies = chance.choice(np.arange(rows // 2, rows), planted, replace=False)
    signatures[copies] = signatures[chance.choice(rows // 2, planted, replace=False)]
    signatures[copies, :10] += 1
    started = time.monotonic()
    found = find(signatures, 0.85)
    assert set(found) == set(copies.tolist())
    return {"µs a row": 1e6 * (time.monotonic() - started) / rows}


def overlap(rows: int) -> dict[str, float]:
    from codeio_hpc.stages.benchmarks import make_index

    chance = np.random.RandomState(0)

    def text(count: int) -> str:
        return " ".join(WORDS[place] for place in chance.randint(0, len(WORDS), count))

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        items = [text(100) for _ in range(5_000)]
        file.writelines(json.dumps({"task": item}) + "\n" for item in items)
        file.flush()
        index = make_index([Benchmark(name="b", path=file.name)], 13)
    spent, found = 0.0, set()
    for number in range(rows):
        row = text(120)
        if number % 100 == 0:
            row += " " + " ".join(items[number // 100 % 5_000].split()[:13])
        started = time.monotonic()
        found |= index.hits([row])
        spent += time.monotonic() - started
    assert len(found) == min(5_000, -(-rows // 100)), "every planted item, and no other"
    return {"µs a row": 1e6 * spent / rows}


MEASURED: dict[str, Callable[[int], dict[str, float]]] = {
    "engine": engine,
    "near-duplicates": near_duplicates,
    "overlap": overlap,
}


def measure(name: str, rows: int) -> tuple[dict[str, float], float]:
    """Figures, and the process's peak memory in MB."""
    figures = MEASURED[name](rows)
    return figures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"of {', '.join(MEASURED)} (default: all)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    print("| what | rows | figures | peak memory, MB |")
    print("|---|---:|---|---:|")
    for name in options.what or MEASURED:
        for rows in options.rows:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                figures, memory = pool.apply(measure, (name, rows))
            told = ", ".join(f"{what}: {value:.1f}" for what, value in figures.items())
            print(f"| {name} | {rows:,} | {told} | {memory:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
