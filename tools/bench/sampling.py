"""`sample` against starting an interpreter: CPU time of the same work, side by side in one run.

    python tools/bench/sampling.py CODEIO_DEMO.jsonl REASONING_GYM.jsonl [--functions N]

The work: up to ten inputs of each function (given ones of the first file; of the second, what the function's own
generator draws), executed, and executed again under another hash seed for the pairs that reproduce.

  sample                 the stage itself, in a warm, nested jail; the start of its jails stands in a line of its own
  interpreter, once      one interpreter for a function, no isolation, and no second execution: as the public code
  interpreter, twice     one for a function and hash seed, no isolation
  one an execution       one for every execution, no isolation

Interpreters import what the public CodeI/O checker imports before it runs anything (numpy and some of the standard
library); with ``--bare`` they import json alone. An execution that takes longer than the limit of 5 s CPU time is given
up, and a function after its second one. Functions whose own work, done once, takes longer than the start of an
interpreter (slow) have lines of their own: that work costs the same in every way. `One an execution` does every tenth
function. CPU seconds are the machine's: nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codeio_hpc.config.run import RunConfig, TransformSettings
from codeio_hpc.sandbox import FunctionRequest, Limits, Pool
from codeio_hpc.sandbox.policy import kind_of
from codeio_hpc.stages.base import Context, Rejection
from codeio_hpc.stages.sample import Sample
from codeio_hpc.stages.static.module import Refused
from codeio_hpc.stages.static.unified import UnifiedFunction, finish
from codeio_hpc.tables.schemas import FUNCTIONS

INPUTS = 10
SECONDS = 5.0
EMPTY = "def main_solution():\n    return 0\n"
KINDS = {"plain": "def main_solution(n):\n    return n\n"}
KINDS["scientific"] = "import numpy\n" + KINDS["plain"]
IMPORTS = "import ast, collections, itertools, json, math, random, re, string, sys, tempfile, typing\nimport numpy\n"
BARE = "import json, random, sys\n"
PROGRAM = """
import signal

def give_up(number, frame):
    raise TimeoutError

signal.signal(signal.SIGVTALRM, give_up)
task = json.loads(sys.stdin.read())
random.seed(0)
inputs = task["inputs"]
if inputs is None:
    names, inputs = {"__name__": "generator"}, []
    exec(compile(task["generator"], "generator", "exec"), names)
    for _ in range(1000):
        given = json.loads(json.dumps(names["input_generator"]()))
        if given not in inputs:
            inputs.append(given)
        if len(inputs) == task["count"]:
            break
names = {"__name__": "solution"}
exec(compile(task["code"], "solution", "exec"), names)
results, slow = [], 0
for given in inputs:
    text = json.dumps(given)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, task["seconds"])
        result = names["main_solution"](**given) if slow < 2 else None
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        results.append([text, None if result is None else json.dumps(result)])
    except TimeoutError:
        slow += 1
    except Exception:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
sys.stdout.write(chr(10) + json.dumps(results) + chr(10))
"""


@dataclass(frozen=True)
class Task:
    """A function and where its inputs come from."""

    code: str
    generator: str
    inputs: list[Any] | None = None
    """None if the generator draws them; else it hands out these."""


def given_tasks(path: Path) -> list[Task]:
    """Functions with their stored inputs."""
    tasks = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        inputs = [pair["input"] for pair in row["ios"] if isinstance(pair["input"], dict)][:INPUTS]
        if inputs and row.get("funcname", "main_solution") == "main_solution":
            generator = f"INPUTS = {inputs!r}\n\n\ndef input_generator():\n    return INPUTS.pop(0)\n"
            tasks.append(Task(row["refcode"], generator, inputs))
    return tasks


def drawn_tasks(path: Path) -> list[Task]:
    """Functions with generators of their own, of those that `transform` accepts."""
    tasks = []
    names = ("code_sample", "input_output_spec", "input_generator", "task_description")
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        try:
            function = finish(UnifiedFunction(*(row[name] for name in names)), TransformSettings())
        except (Refused, KeyError):
            continue
        tasks.append(Task(function.code, function.generator))
    return tasks


class Stage:
    """The stage `sample`, with the sandboxes that its worker would have."""

    def __init__(self, stack: ExitStack) -> None:
        settings = {"pairs": INPUTS, "spare": 0, "min_pairs": 1, "cpu_seconds": SECONDS}
        self.config = RunConfig.model_validate(
            {"name": "bench", "sources": [{"name": "bench", "path": "."}], "sample": settings}
        )
        self.pools = {seed: stack.enter_context(Pool(hash_seed=seed)) for seed in range(4)}

    def start(self) -> int:
        """Start every jail that functions may need."""
        for pool in self.pools.values():
            for code in KINDS.values():
                pool.run(FunctionRequest(id="start", code=code, inputs=[{"n": 1}], limits=Limits()))
        return 0

    def run(self, tasks: list[Task]) -> int:
        """Sample the functions; the number of pairs."""
        rows = []
        for number, task in enumerate(tasks):
            row: dict[str, Any] = dict.fromkeys(FUNCTIONS.schema.names, "")
            row |= {"function_id": FUNCTIONS.row_id(str(number)), "code": task.code, "generator": task.generator}
            row |= {"entry_point": "main_solution", "kind": kind_of(task.code, task.generator), "tags": []}
            rows.append(row)
        context = Context(self.config, Sample.name, 0, self.pools.__getitem__, Path("journal"))
        return sum(not isinstance(item, Rejection) for item in Sample().run(rows, context))


def interpreters(tasks: list[Task], imports: str, seeds: tuple[str, ...], per_execution: bool) -> int:
    """The pairs on which all runs agree."""
    pairs = 0
    for task in tasks:
        groups: list[list[Any] | None] = [task.inputs]
        if per_execution:
            inputs = task.inputs or [json.loads(text) for text, _ in interpreter(task, None, imports, "0")]
            groups = [[given] for given in inputs]
        for group in groups:
            runs = [dict(map(tuple, interpreter(task, group, imports, seed))) for seed in seeds]
            pairs += sum(
                text is not None and all(run.get(given) == text for run in runs) for given, text in runs[0].items()
            )
    return pairs


def interpreter(task: Task, inputs: list[Any] | None, imports: str, seed: str) -> list[Any]:
    asked = {"code": task.code, "generator": task.generator, "inputs": inputs, "count": INPUTS, "seconds": SECONDS}
    ended = subprocess.run(
        [sys.executable, "-c", imports + PROGRAM],
        input=json.dumps(asked),
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=120,
    )
    text = ended.stdout.strip().rpartition("\n")[2]
    return json.loads(text) if ended.returncode == 0 and text.startswith("[") else []


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


def own_seconds(task: Task, imports: str) -> float:
    """CPU time of one interpreter that does a function's work."""
    before = os.times()
    interpreter(task, task.inputs, imports, "0")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("gym", type=Path)
    parser.add_argument("--functions", type=int, default=100, help="functions of each file")
    parser.add_argument("--bare", action="store_true", help="interpreters import json and random alone")
    options = parser.parse_args()
    imports = BARE if options.bare else IMPORTS
    sets = {"codeio-demo": given_tasks(options.demo), "reasoning-gym": drawn_tasks(options.gym)}
    print("| functions of | way | functions | pairs | CPU s | ms a function | functions a s | pairs a s | ratio |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    with ExitStack() as stack:
        stage = Stage(stack)
        started, _ = cpu_seconds(stage.start)
        print(f"| | start of {len(stage.pools) * len(KINDS)} jails | | | {started:.2f} | | | | |", flush=True)
        empty = own_seconds(Task(EMPTY, "", [{}]), imports)
        for name, tasks in sets.items():
            chosen = random.Random(0).sample(tasks, min(options.functions, len(tasks)))
            slow = [task for task in chosen if own_seconds(task, imports) > 2 * empty]
            quick = [task for task in chosen if task not in slow]
            for group, members in ((name, quick), (f"{name}, slow", slow)):
                if members:
                    compare(group, members, stage, imports)
    return 0


def compare(name: str, tasks: list[Task], stage: Stage, imports: str) -> None:
    """Do the work in every way, and print a line for each."""
    tenth = tasks[::10]
    ways: dict[str, tuple[list[Task], Callable[[], int]]] = {
        "sample": (tasks, lambda: stage.run(tasks)),
        "interpreter, once": (tasks, lambda: interpreters(tasks, imports, ("0",), False)),
        "interpreter, twice": (tasks, lambda: interpreters(tasks, imports, ("0", "1"), False)),
        "one an execution": (tenth, lambda: interpreters(tenth, imports, ("0", "1"), True)),
    }
    ours = 0.0
    for way, (done, work) in ways.items():
        spent, pairs = cpu_seconds(work)
        each = spent / len(done)
        ours = ours or each
        print(
            f"| {name} | {way} | {len(done)} | {pairs} | {spent:.2f} | {1000 * each:.1f} | {1 / each:.1f} | "
            f"{pairs / spent:.1f} | {each / ours:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    raise SystemExit(main())
