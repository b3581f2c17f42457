"""Builds every ablation preset from a finished run, and holds its counts against a calculation of their own.

    python tools/trials/ablations.py configs/runs/demo.yaml runs/demo --out runs/ablations

Each build reuses what the finished run has; the calculation reads nothing but that run's conversations. Prints a table
in Markdown and exits with 1 if any count differs.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codeio_hpc.launch.plan import places
from codeio_hpc.launch.run import open_run
from codeio_hpc.tables.shards import read_stage

Rows = list[dict[str, Any]]
PRESETS = Path("configs/runs/ablations")


def rows_of(run: Path, stage: str) -> Rows:
    [place] = [place for place in places(open_run(run)) if place.stage.name == stage]
    return list(read_stage(place.folder))


def pairs_kept(rows: Rows, sixths: int) -> int:
    """Of a function's n pairs, n * sixths / 6, rounded up; each with all its questions."""
    number_of = {row["function_id"]: row["pairs"] for row in rows}
    first = {name: -(-number * sixths // 6) for name, number in number_of.items()}
    return sum(row["position"] < first[row["function_id"]] for row in rows)


def about(share: float) -> Callable[[Rows], tuple[int, int]]:
    """A random share: within four standard deviations."""

    def bounds(rows: Rows) -> tuple[int, int]:
        mean, deviation = share * len(rows), math.sqrt(len(rows) * share * (1 - share))
        return math.ceil(mean - 4 * deviation), math.floor(mean + 4 * deviation)

    return bounds


CALCULATED: dict[str, Callable[[Rows], int | tuple[int, int]]] = {
    "inputs-only": lambda rows: sum(row["direction"] == "input" for row in rows),
    "outputs-only": lambda rows: sum(row["direction"] == "output" for row in rows),
    "quarter": about(0.25),
    "half": about(0.5),
    "three-quarters": about(0.75),
    "rejection-sampling": lambda rows: sum(row["turns"][0]["category"] == "correct" for row in rows),
    **{f"pairs-{sixths}-of-6": lambda rows, sixths=sixths: pairs_kept(rows, sixths) for sixths in range(1, 7)},
}
"""Samples that a preset leaves; all of the others leave every conversation."""


def response_counts(samples: Rows) -> dict[str, int]:
    """How many prompts and responses show code, and how many responses are the bare value."""
    prompts = [row["messages"][0]["content"] for row in samples]
    texts = [row["messages"][1]["content"] for row in samples]
    return {
        "prompts with code": sum("def main_solution" in text for text in prompts),
        "responses with code": sum("def main_solution" in text for text in texts),
        "bare values": sum(text.startswith('{"') and "\n" not in text for text in texts),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = rows_of(options.run, "revise")
    sources = sorted({row["source"] for row in rows})
    builds = [(path.stem, ["--preset", path.stem]) for path in sorted(PRESETS.glob("*.yaml"))]
    builds += [(f"without {name}", [f"assemble.leave_out=[{name}]"]) for name in sources]
    print("| preset | samples | calculated | prompts with code | responses with code | bare values |")
    print("|---|---:|---:|---:|---:|---:|")
    print(f"| (the run) | {len(rows):,} | – | | | |")
    wrong = 0
    for name, arguments in builds:
        folder = options.out / name.replace(" ", "-")
        command = [sys.executable, "-m", "codeio_hpc", "build", str(options.config), *arguments, "--run", str(folder)]
        settings = ["recipe=null", "assemble.instructions=none", f"launch.reuse=[{options.run}]", "launch.workers=2"]
        subprocess.run([*command, *settings], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        samples = rows_of(folder, "assemble")
        if name.startswith("without "):
            expected: int | tuple[int, int] = sum(row["source"] != name.removeprefix("without ") for row in rows)
        else:
            expected = CALCULATED.get(name, len)(rows)
        fits = expected[0] <= len(samples) <= expected[1] if isinstance(expected, tuple) else len(samples) == expected
        wrong += not fits
        told = f"{expected[0]:,} to {expected[1]:,}" if isinstance(expected, tuple) else f"{expected:,}"
        counts = " | ".join(f"{count:,}" for count in response_counts(samples).values())
        print(f"| {name} | {len(samples):,} | {told}{'' if fits else ' **differs**'} | {counts} |", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
