"""The tables and the plot of docs/training-plan.md: four models on 8 to 64 A100-80.

    python tools/bench/training_plan.py [--plot docs/training-plan.svg]

Everything is calculated by `codeio plan train`'s own functions, from the recipes as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from codeio_hpc.report.memory import write_plot
from codeio_hpc.train.planner.forecast import Data, Given, memory_by_nodes, plan_training
from codeio_hpc.train.planner.hardware import GPUS, Cluster

RECIPES = Path(__file__).parents[2] / "configs" / "models"
MODELS = ("qwen2.5-coder-7b", "llama-3.1-8b", "deepseek-coder-v2-lite", "gemma-2-27b")
NODES = (1, 2, 4, 8)
GPU = GPUS["a100-80"]
SAMPLES, TOKENS = 3_520_000, 500.0
"""Of stage 1 (arXiv 2502.07316), and an assumption: the paper does not say how long its samples are."""


def plan(model: str, nodes: int, *overrides: str) -> dict[str, Any]:
    """Of stages 1 and 2 on that many nodes of eight A100-80."""
    data = Data(samples=SAMPLES, tokens_per_sample=TOKENS)
    return plan_training(RECIPES / f"{model}.yaml", overrides, None, Cluster(nodes, 8, GPU), data, Given())


def memory_row(model: str, nodes: int) -> str:
    memory = plan(model, nodes)["stages"]["stage1"]["memory"]
    spare = f"{abs(memory['left']) / 1e9:.1f} GB"
    changes = ", or ".join(f"`{change['how']}` ({change['bytes'] / 1e9:.0f})" for change in memory["changes"])
    verdict = f"fits, {spare} to spare" if memory["fits"] else f"**{spare} too much**; fits with {changes}"
    return f"| `{model}` | {8 * nodes} | {memory['bytes'] / 1e9:.1f} | {memory['moment']} | {verdict} |"


def hours_row(model: str, nodes: int) -> str:
    stages = plan(model, nodes)["stages"]
    cells = []
    for name in ("stage1", "stage2"):
        course, preemption = stages[name]["course"], stages[name]["preemption"]
        best, lost = preemption["best_save_minutes"], preemption["lost_share"]
        cells += [f"{course['hours']:.1f}", f"{best:.1f} min ({preemption['best_lost_share']:.1%})", f"{lost:.1%}"]
    checkpoint = stages["stage1"]["checkpoints"]
    sizes = f"{checkpoint['bytes'] / 1e9:.0f} GB | {checkpoint['write_seconds']:.0f} s"
    return f"| `{model}` | {8 * nodes} | {' | '.join(cells)} | {sizes} |"


def tables() -> str:
    """Both, as they stand on the page."""
    every = [(model, nodes) for model in MODELS for nodes in NODES]
    memory = ["| recipe | GPUs | GB of one | fullest | |", "|---|---:|---:|---|---|"]
    memory += [memory_row(model, nodes) for model, nodes in every]
    hours = [
        "| recipe | GPUs | stage 1, hours | best | recipe's | stage 2, hours | best | recipe's | checkpoint "
        "| written in |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    hours += [hours_row(model, nodes) for model, nodes in every]
    return "\n".join([*memory, "", *hours])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw a GPU's memory over the number of GPUs")
    options = parser.parse_args()
    print(tables())
    if options.plot:
        lines = {
            model: memory_by_nodes(RECIPES / f"{model}.yaml", (), "stage1", Cluster(1, 8, GPU)) for model in MODELS
        }
        write_plot("Stage 1 as in the recipes, on A100-80 with 8 a node", lines, GPU.usable, options.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
