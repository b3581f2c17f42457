"""What a build asks of the scheduler and of the file system, counted on a real SLURM, and what its plan had said.

    python tools/bench/scheduler_load.py [calls] [files] [--tasks 25]

A box of tools/slurm-in-a-box comes up and goes away again. On it a build of small files runs in four steps of so many
tasks, one shard a task. ``sdiag`` counts the controller's RPCs by type, from its reset to the build's end. The plan is
that of `codeio plan data` for the same configuration and site, without faults.

File operations are counted by strace, attached to the box's slurmds, on two builds of four tasks a step, with one and
with three shards a task: what the second has more, its shards cost; the rest is the tasks'. strace slows everything
down, and changes no count.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BOX = ROOT / "tools" / "slurm-in-a-box" / "box"
CODEIO = [sys.executable, "-m", "codeio_hpc"]

PREDICTED = {
    "REQUEST_SUBMIT_BATCH_JOB": ("sbatch", lambda plan: plan["calls"]["sbatch"]),
    "REQUEST_JOB_INFO": ("squeue", lambda plan: plan["calls"]["squeue"]),
    "REQUEST_PARTITION_INFO": ("squeue", lambda plan: plan["calls"]["squeue"]),
    "REQUEST_JOB_REQUEUE": ("scontrol requeue", lambda plan: plan["calls"].get("scontrol requeue", 0)),
    "REQUEST_COMPLETE_BATCH_SCRIPT": ("a start of a job or element", lambda plan: plan["starts"]),
}
"""RPC type -> what causes one, and how many the plan says."""


@contextmanager
def a_box() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="box-", dir="/tmp"))
    process = subprocess.Popen(
        [BOX, "up", folder, "--until-eof", "--gpu-nodes", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("up in"):
            raise SystemExit("the box did not come up")
        yield folder
    finally:
        process.communicate()  # closes its stdin: the box goes down
        shutil.rmtree(folder, ignore_errors=True)


def inside(box: Path, *command: str | Path) -> str:
    done = subprocess.run([BOX, "run", box, "--", *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def write_inputs(folder: Path, tasks: int, shards: int) -> tuple[Path, Path]:
    """A configuration of so many shards, and a site."""
    sources = folder / "sources"
    sources.mkdir()
    for number in range(shards):
        code = f"def add_{number}(left: int, right: int) -> int:\n    return left * {number + 2} + right\n"
        (sources / f"f{number:03d}.py").write_text(code, encoding="utf-8")
    config = {
        "name": "load",
        "sources": [{"name": "here", "path": str(sources)}],
        "collect": {"files_per_shard": 1, "near_duplicates": None, "min_bytes": 1},
        "split": {"near_duplicates": None},
        "launch": {"tasks": tasks},
    }
    cpu = {"partition": "cpu", "memory": {"style": "mem-per-cpu", "value": "400M"}, "time": "30m"}
    site = {"name": "load", "resources": {"cpu": cpu}, "max_tasks_at_once": 3}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "site.yaml").write_text(yaml.safe_dump(site), encoding="utf-8")
    return folder / "config.yaml", folder / "site.yaml"


def build(box: Path, folder: Path, config: Path, site: Path, *before: str) -> None:
    """Submit, and wait until the last job has said that nothing is left; the queue is not asked."""
    inside(box, *before, *CODEIO, "build", config, "--run", folder / "run", "--site", site, "--json")
    log = folder / "run" / "logs"
    while not any("build complete" in path.read_text("utf-8") for path in log.rglob("*_0_log.out")):
        time.sleep(0.5)
    time.sleep(2)  # the last job's end reaches the controller


def rpcs(text: str) -> Counter[str]:
    """Type -> count, from what sdiag prints."""
    section = text.split("statistics by message type")[1].split("statistics by user")[0]
    return Counter({name: int(count) for name, count in re.findall(r"^\s+(\S+)\s+\(.*?\) count:(\d+)", section, re.M)})


def measure_calls(tasks: int) -> None:
    with a_box() as box, tempfile.TemporaryDirectory(prefix="load-", dir="/tmp") as name:
        folder = Path(name)
        config, site = write_inputs(folder, tasks, tasks)
        inside(box, "sdiag", "--reset")
        build(box, folder, config, site)
        counted = rpcs(inside(box, "sdiag"))
        files = json.loads(inside(box, *CODEIO, "usage", folder / "run", "--json"))["files"]
        packed = json.loads(inside(box, *CODEIO, "pack", folder / "run", "--json"))["files_after"]
        arguments = ["plan", "data", config, "--site", site, "--like", folder / "run", "--json"]
        plan = json.loads(inside(box, *CODEIO, *arguments))["scenarios"]["calm"]
    print(f"## Calls: {plan['tasks']} tasks in {len(plan['rounds'])} steps\n")
    print("| RPC | caused by | counted | the plan said | for 1,000 tasks |")
    print("|---|---|---:|---:|---:|")
    for kind in [*PREDICTED, *sorted(counted.keys() - PREDICTED.keys())]:
        cause, predict = PREDICTED.get(kind, ("SLURM itself", lambda plan: ""))
        cause = "this count" if kind == "REQUEST_STATS_INFO" else cause
        print(f"| {kind} | {cause} | {counted[kind]} | {predict(plan)} | {1000 * counted[kind] / plan['tasks']:.0f} |")
    print("\n| files of the run folder | counted | the plan said |\n|---|---:|---:|")
    print(f"| at the end | {files} | {plan['files']['end']} |")
    print(f"| after `codeio pack` | {packed} | {plan['files']['packed']} |\n", flush=True)


# -- file operations ---------------------------------------------------------------------------------------------------

KINDS = {
    "look": ("stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat"),
    "open": ("open", "openat"),
    "create": ("creat", "mkdir", "mkdirat", "symlink", "symlinkat"),
    "list": ("getdents64",),
    "read": ("read", "pread64", "readv"),
    "write": ("write", "pwrite64", "writev"),
    "rename or link": ("rename", "renameat", "renameat2", "link", "linkat"),
    "remove": ("unlink", "unlinkat", "rmdir"),
    "fsync": ("fsync", "fdatasync"),
}
"""Kind of operation -> system calls; an ``openat`` that may create counts as create."""
KIND_OF = {call: kind for kind, calls in KINDS.items() for call in calls}

_CALL = re.compile(r"^\d+\s+(\w+)\((.*)")
_NAMED = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<at>[^>]*)>, )?"(?P<path>(?:[^"\\]|\\.)*)"')
_OPENED = re.compile(r"\d+<(?P<path>[^>]*)>")


def operation(line: str) -> tuple[str, str] | None:
    """Kind and path of a line of `strace -f -y`; None of any other line."""
    call = _CALL.match(line)
    if call is None or call[1] not in KIND_OF:
        return None
    kind, arguments = KIND_OF[call[1]], call[2]
    if opened := _OPENED.match(arguments) if kind in ("list", "read", "write", "fsync") else None:
        return kind, opened["path"]
    named = _NAMED.match(arguments)
    if named is None:
        return None
    kind = "create" if kind == "open" and "O_CREAT" in arguments else kind
    return kind, os.path.normpath(os.path.join(named["at"] or "", named["path"]))


@contextmanager
def traced(box: Path, into: Path) -> Iterator[None]:
    """Trace the box's slurmds, and so all jobs."""
    processes = [path.read_text().strip() for path in sorted((box / "run").glob("slurmd-*.pid"))]
    command = [*strace(into), *(f"--attach={process}" for process in outside(box, processes))]
    tracer = subprocess.Popen(command)
    time.sleep(1)
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()


def strace(into: Path) -> list[str]:
    calls = ",".join(f"?{call}" for call in KIND_OF)
    return ["strace", "-f", "-y", "-qq", "-s", "300", f"--trace={calls}", f"--output={into}"]


def outside(box: Path, processes: Sequence[str]) -> list[str]:
    """Ids by which this machine knows the box's processes of these ids."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            ids = re.search(r"^NSpid:\t(.*)$", status.read_text(), re.M)
            command = (status.parent / "cmdline").read_bytes()
            environment = (status.parent / "environ").read_bytes()
        except OSError:
            continue
        ours = f"{box}/".encode() in command + environment
        if ours and b"slurmd" in command and ids and ids[1].split()[-1] in processes:
            found.append(status.parent.name)
    return found


def count_operations(tasks: int, shards: int) -> dict[str, Counter[str]]:
    """{"run folder", "installation"} -> operations by kind, of a whole build."""
    installation = tuple({str(ROOT), sys.prefix, sys.base_prefix + "/lib/python"})
    with a_box() as box, tempfile.TemporaryDirectory(prefix="load-", dir="/tmp") as name:
        folder = Path(name)
        config, site = write_inputs(folder, tasks, shards)
        submitting, working = folder / "submitting.txt", folder / "working.txt"
        with traced(box, working):
            build(box, folder, config, site, *strace(submitting))
        found: dict[str, Counter[str]] = {"run folder": Counter(), "installation": Counter()}
        for trace in (submitting, working):
            with open(trace, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    if (seen := operation(line)) is None:
                        continue
                    if seen[1].startswith(f"{folder}/run"):
                        found["run folder"][seen[0]] += 1
                    elif seen[1].startswith(installation):
                        found["installation"][seen[0]] += 1
    return found


def measure_operations(tasks: int = 4) -> None:
    few, many = count_operations(tasks, tasks), count_operations(tasks, 3 * tasks)
    steps = 4
    print(f"## File operations: {steps} steps of {tasks} tasks, with 1 and 3 shards a task\n")
    print("| operation | a shard, in all stages | a task beside its shards | reading the installation, a task |")
    print("|---|---:|---:|---:|")
    totals = Counter[str]()
    for kind in KINDS:
        shard = (many["run folder"][kind] - few["run folder"][kind]) / (2 * tasks)
        task = (few["run folder"][kind] - tasks * shard) / (steps * tasks)
        code = few["installation"][kind] / (steps * tasks)
        totals.update({"shard": shard, "task": task, "code": code})
        print(f"| {kind} | {shard:.1f} | {task:.1f} | {code:.1f} |")
    print(f"| all | {totals['shard']:.0f} | {totals['task']:.0f} | {totals['code']:.0f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="calls, files (default: both)")
    parser.add_argument("--tasks", type=int, default=25, help="of each step, to count calls (default: 25, 100 in all)")
    options = parser.parse_args()
    if "calls" in options.what or not options.what:
        measure_calls(options.tasks)
    if "files" in options.what or not options.what:
        if shutil.which("strace") is None:
            raise SystemExit("file operations are counted by strace: apt-get install strace")
        measure_operations()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
