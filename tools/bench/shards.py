"""What commands cost on a run of very many shards: submitting, status, going on; time, memory, scheduler calls.

    python tools/bench/shards.py [--shards 10000 100000] [--folder DIR]

Makes a run whose shards are published, all of them empty, up to its last stage but one, and gives it to the real
commands on a cluster of tools/slurm-in-a-box. Nothing is fsynced while the run is made, which takes minutes still.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import yaml

from codeio_hpc.config import load_yaml, parse
from codeio_hpc.config.run import RunConfig
from codeio_hpc.launch.plan import Look, Place, places
from codeio_hpc.launch.run import Run, create_or_open_run, open_run
from codeio_hpc.stages.base import GatherStage
from codeio_hpc.tables.shards import part_path, publish_shard, read_footer

ROOT = Path(__file__).parents[2]
BOX = ROOT / "tools" / "slurm-in-a-box" / "box"
CODEIO = [sys.executable, "-m", "codeio_hpc"]


def make_run(folder: Path, shards: int) -> Run:
    """A run with one record a shard, listed by the real code."""
    with open(folder / "records.jsonl", "w", encoding="utf-8") as file:
        for number in range(shards):
            file.write(json.dumps({"content": f"number = {number}\n"}) + "\n")
    config = {
        "name": "many",
        "sources": [{"name": "none", "path": str(folder / "records.jsonl"), "licence": "Apache-2.0"}],
        "collect": {"files_per_shard": 1, "near_duplicates": None},
        "split": {"near_duplicates": None},
        "teacher": {"kind": "tracer"},
    }
    (folder / "many.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return create_or_open_run(folder / "run", parse(RunConfig, load_yaml(folder / "many.yaml"), "many.yaml"))


def publish_stage(run: Run, place: Place) -> None:
    """Every shard of a stage, without rows; with its sketches and decision, if it has those."""
    if isinstance(place.stage, GatherStage):
        each_part("sketch", run, place)
        place.write_decision(Look(run).inputs(place), {})
    each_part("shard", run, place)


def each_part(kind: str, run: Run, place: Place) -> None:
    number = [each.folder for each in places(run)].index(place.folder)
    ranges = [(run.folder, number, kind, part, run.shards) for part in range(2)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(publish_part, ranges))


def publish_part(work: tuple[Path, int, str, int, int]) -> None:
    folder, number, kind, part, shards = work
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    place = places(open_run(folder))[number]
    for shard in range(part, shards, 2):
        footer = read_footer(part_path(place.input_folder, shard))
        assert footer is not None
        if kind == "sketch":
            place.write_sketch(shard, footer.checksum, {})
        else:
            identity = place.identity(shard)
            assert identity is not None
            publish_shard(place.folder, identity, [], [])


OURS = ("REQUEST_SUBMIT_BATCH_JOB", "REQUEST_JOB_USER_INFO", "REQUEST_JOB_INFO", "REQUEST_KILL_JOB")
"""Calls of commands; nodes and the cluster's own daemons make others."""


def measure(box: Path, *command: str | Path) -> dict[str, object]:
    """Seconds, peak memory and calls of SLURM's controller of a command on the cluster."""
    subprocess.run([BOX, "run", box, "--", "sdiag", "--reset"], check=True, capture_output=True)
    program = (
        "import resource, subprocess, sys, time; start = time.monotonic(); "
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode; "
        "print(code, time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    line = [BOX, "run", box, "--", sys.executable, "-c", program, *command]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    code, seconds, memory = done.stdout.split()
    assert code == "0", done.stderr
    report = subprocess.run([BOX, "run", box, "--", "sdiag"], capture_output=True, text=True, check=True).stdout
    by_type = report.partition("by message type")[2].partition("by user")[0]
    calls = dict(re.findall(r"(REQUEST_\w+)\s+\(\s*\d+\) count:(\d+)", by_type))
    return {
        "seconds": round(float(seconds), 2),
        "MB": round(float(memory)),
        "calls": {name: int(calls[name]) for name in OURS if name in calls},
    }


def publish_run(folder: Path, shards: int) -> Run:
    """A run with all its stages but the last."""
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    start = time.monotonic()
    folder.mkdir(exist_ok=True)
    run = make_run(folder, shards)
    for place in places(run)[:-1]:
        publish_stage(run, place)
    print(
        f"made {shards:,} shards of {len(places(run)) - 1} stages in {time.monotonic() - start:.0f} s", file=sys.stderr
    )
    return run


def bench(shards: int, folder: Path) -> None:
    run = open_run(folder / "run") if (folder / "run").exists() else publish_run(folder, shards)
    box = Path(tempfile.mkdtemp(prefix="box-", dir="/tmp"))
    subprocess.run([BOX, "up", box], check=True, capture_output=True)
    try:
        build = [*CODEIO, "build", folder / "many.yaml", "--run", run.folder, "--site", "box", "launch.tasks=600"]
        subprocess.run(
            [BOX, "run", box, "--", "scontrol", "update", "partitionname=scavenge", "state=down"], check=True
        )
        for what, command in (
            ("status, no index", [*CODEIO, "status", run.folder]),
            ("submit, no index", build),
            ("status", [*CODEIO, "status", run.folder]),
            ("build again: at work", build),
            ("cancel", [*CODEIO, "cancel", run.folder]),
            ("resume: submit", [*CODEIO, "resume", run.folder, "--site", "box"]),
        ):
            figures = measure(box, *command)
            calls = ", ".join(f"{name.removeprefix('REQUEST_')} {count}" for name, count in figures["calls"].items())
            print(f"| {shards:,} | {what} | {figures['seconds']} | {figures['MB']} | {calls} |", flush=True)
    finally:
        subprocess.run([BOX, "down", box, "--purge"], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="where the run is, or is made, and left (default: a temporary one)")
    options = parser.parse_args()
    print("| shards | command | s | MB | calls of the controller |\n|---:|---|---:|---:|---|")
    for shards in options.shards:
        folder = options.folder or Path(tempfile.mkdtemp(prefix="bench-"))
        try:
            bench(shards, folder)
        finally:
            if options.folder is None:
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
