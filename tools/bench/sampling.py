"""Sampling in the sandbox against starting an interpreter: CPU time of the same work, side by side in one run.

    python tools/bench/sampling.py CODEIO_DEMO.jsonl REASONING_GYM.jsonl [--functions N]

The work: up to ten inputs of each function (given ones of the first file, ones drawn by the function's own generator of
the second), each executed twice, the second time under another hash seed. The same inputs go to all ways:

  sandbox          this project's pool: a warm, nested jail, one forked process for each execution
  per function     one interpreter for a function and hash seed, without any isolation
  per execution    one interpreter for an execution, without any isolation

Interpreters import what the public CodeI/O checker imports before it runs anything (numpy and some of the standard
library); with ``--bare`` they import json alone. CPU seconds are the machine's, start and end of everything included:
nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codeio_hpc.config.run import TransformSettings
from codeio_hpc.sandbox import FunctionRequest, Generator, Limits, Pool, Verdict
from codeio_hpc.stages.static.module import Refused
from codeio_hpc.stages.static.unified import UnifiedFunction, finish

INPUTS = 10
IMPORTS = "import ast, collections, itertools, json, math, random, re, string, sys, tempfile, typing\nimport numpy\n"
BARE = "import json, sys\n"
PROGRAM = """
task = json.loads(sys.stdin.read())
names = {"__name__": "solution"}
exec(compile(task["code"], "solution", "exec"), names)
results = []
for given in task["inputs"]:
    try:
        results.append(json.dumps(names["main_solution"](**given)))
    except Exception as error:
        results.append(None)
print(json.dumps(results))
"""
Task = dict[str, Any]


def given_tasks(path: Path) -> list[Task]:
    """Functions with their stored inputs."""
    tasks = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        inputs = [pair["input"] for pair in row["ios"] if isinstance(pair["input"], dict)][:INPUTS]
        if inputs and row.get("funcname", "main_solution") == "main_solution":
            tasks.append({"code": row["refcode"], "inputs": inputs})
    return tasks


def drawn_tasks(path: Path, most: int) -> list[Task]:
    """Functions with inputs that their own generators draw, in the sandbox."""
    tasks: list[Task] = []
    with Pool(limits=Limits(cpu_seconds=2)) as pool:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            names = ("code_sample", "input_output_spec", "input_generator", "task_description")
            try:
                function = finish(UnifiedFunction(*(row[name] for name in names)), TransformSettings())
            except (Refused, KeyError):
                continue
            generator = Generator(code=function.generator, count=INPUTS, attempts=100)
            result = pool.run(FunctionRequest(id="0", code=function.code, generator=generator))
            inputs = [one.input for one in result.results if one.verdict is Verdict.OK]
            if inputs:
                tasks.append({"code": function.code, "inputs": inputs})
            if len(tasks) == most:
                break
    return tasks


def in_the_sandbox(tasks: list[Task]) -> int:
    pairs = 0
    with (
        Pool(hash_seed=0, limits=Limits(cpu_seconds=5)) as first,
        Pool(hash_seed=1, limits=Limits(cpu_seconds=5)) as second,
    ):
        for number, task in enumerate(tasks):
            outputs = []
            for pool in (first, second):
                request = FunctionRequest(id=str(number), code=task["code"], inputs=task["inputs"])
                outputs.append([(one.verdict, json.dumps(one.output)) for one in pool.run(request).results])
            pairs += sum(a == b and a[0] is Verdict.OK for a, b in zip(*outputs, strict=True))
    return pairs


def interpreters(tasks: list[Task], imports: str, per_execution: bool) -> int:
    pairs = 0
    for task in tasks:
        groups = [[given] for given in task["inputs"]] if per_execution else [task["inputs"]]
        for group in groups:
            outputs = []
            for seed in ("0", "1"):
                ended = subprocess.run(
                    [sys.executable, "-c", imports + PROGRAM],
                    input=json.dumps({"code": task["code"], "inputs": group}),
                    env={**os.environ, "PYTHONHASHSEED": seed},
                    capture_output=True,
                    text=True,
                    timeout=120,
                )
                text = ended.stdout.strip().rpartition("\n")[2]
                outputs.append(json.loads(text) if text.startswith("[") else [None] * len(group))
            pairs += sum(a == b and a is not None for a, b in zip(*outputs, strict=True))
    return pairs


def cpu_seconds(work: Callable[[], int]) -> tuple[float, int]:
    """The machine's busy CPU time during the work, and what the work gives. The processes of a jail end together, and
    no parent's own account has their time."""
    before = busy_seconds()
    result = work()
    return busy_seconds() - before, result


def busy_seconds() -> float:
    """User, nice, system and interrupt time of all cores since boot (proc(5), /proc/stat)."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("gym", type=Path)
    parser.add_argument("--functions", type=int, default=60, help="functions of each file")
    parser.add_argument("--bare", action="store_true", help="interpreters import json alone")
    options = parser.parse_args()
    imports = BARE if options.bare else IMPORTS
    sets = {"codeio-demo": given_tasks(options.demo), "reasoning-gym": drawn_tasks(options.gym, 10 * options.functions)}
    print("| functions of | way | functions | pairs | CPU s | ms a function | functions a s | pairs a s | ratio |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, tasks in sets.items():
        chosen = random.Random(0).sample(tasks, min(options.functions, len(tasks)))
        ways: dict[str, Callable[[], int]] = {
            "sandbox": lambda chosen=chosen: in_the_sandbox(chosen),
            "per function": lambda chosen=chosen: interpreters(chosen, imports, False),
            "per execution": lambda chosen=chosen: interpreters(chosen, imports, True),
        }
        ours = 0.0
        for way, work in ways.items():
            spent, pairs = cpu_seconds(work)
            ours = ours or spent
            print(
                f"| {name} | {way} | {len(chosen)} | {pairs} | {spent:.2f} | {1000 * spent / len(chosen):.1f} | "
                f"{len(chosen) / spent:.1f} | {pairs / spent:.1f} | {spent / ours:.1f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
