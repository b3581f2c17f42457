"""Every command that the README and the pages of docs/ show works as it is typed.

They run in a copy of the checkout, in the order of the pages; the demo is made once, by the README's first command.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest
import yaml

from codeio_hpc.config import RunConfig
from codeio_hpc.config.policy import Policy

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BOX = "tools/slurm-in-a-box/box"


def commands(page: Path) -> list[str]:
    """The lines behind a `$` in the page's console blocks, without their comments."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s+#.*", "", line[2:]).strip() for line in lines]


@pytest.fixture(scope="module")
def workplace() -> Iterator[Path]:
    """A copy of the checkout with the same virtual environment and nothing built; its path is short, for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="docs-", dir="/tmp"))
    shutil.copytree(ROOT, folder / "codeio-hpc", ignore=_made_here)
    (folder / "codeio-hpc" / ".venv").symlink_to(ROOT / ".venv")
    for name in ("setup.py", "tools/constraints.txt"):  # or make would install the copy into the shared environment
        os.utime(folder / "codeio-hpc" / name, (0, 0))
    (folder / "tmp").mkdir()
    yield folder / "codeio-hpc"
    subprocess.run([BOX, "down", "--purge"], cwd=ROOT, env=environment(folder / "codeio-hpc"), capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def _made_here(folder: str, names: list[str]) -> list[str]:
    """What is in no fresh checkout."""
    at_the_top = {".git", ".venv", "runs"} if Path(folder) == ROOT else set()
    return [name for name in names if name in at_the_top or name == "__pycache__" or name.endswith(("_cache", ".out"))]


def environment(workplace: Path) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MAKE", "MFLAGS"))
    }
    path = f"{workplace}/.venv/bin:{os.environ['PATH']}"
    return {**inherited, "PATH": path, "TMPDIR": str(workplace.parent / "tmp"), "HF_HUB_OFFLINE": "1"}


def run(workplace: Path, command: str, timeout: float = 600) -> str:
    """What the command, typed in the checkout's folder, prints on stdout."""
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=workplace,
        env=environment(workplace),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert result.returncode == 0, f"$ {command}\n{result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def typed(workplace: Path) -> Callable[[str], str]:
    """What a command prints when it is typed for the first time; several pages show the same ones."""
    return cache(partial(run, workplace))


@pytest.fixture(scope="module")
def demo(workplace: Path) -> Path:
    """The demo's run folder, made by the README's first command."""
    first = commands(ROOT / "README.md")[0]
    assert first == "make demo"
    assert "done in" in run(workplace, first, timeout=1500)
    return workplace / "runs" / "demo"


def test_the_demo_is_large_enough_and_what_it_learnt_is_no_chance(demo: Path) -> None:
    rows = {
        stage: sum(_rows(part) for part in (demo / "stages").glob(f"*-{stage}/part-*.parquet"))
        for stage in ("transform", "pose")
    }
    assert rows["transform"] >= 150
    assert rows["pose"] >= 1_500
    summary = json.loads((demo / "evaluation" / "summary.json").read_text(encoding="utf-8"))
    trained = summary["models"]["stage2"]
    assert trained["exact_match"] >= 0.45  # the README's figure is of one kind of CPU; others round differently
    for other in ("majority", "untrained"):
        [test] = [test for test in summary["comparisons"] if (test["better"], test["than"]) == ("stage2", other)]
        assert test["p"] < 0.01
        assert trained["exact_match"] > summary["models"][other]["exact_match"]


def _rows(part: Path) -> int:
    import pyarrow.parquet

    return int(pyarrow.parquet.read_metadata(part).num_rows)


def test_the_demo_repeated_does_nothing_and_says_so(demo: Path, typed: Callable[[str], str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(demo.rglob("*.parquet"))}
    output = typed("make demo")
    assert "nothing was missing" in output
    assert output.count("already finished") == 2
    assert {path: path.stat().st_mtime_ns for path in sorted(demo.rglob("*.parquet"))} == before


PLAIN = [
    *("newcomer.md", "run-folder.md", "stages.md", "exports.md", "ablations.md", "reasons.md", "planning.md"),
    *("recipes.md", "training.md", "training-plan.md", "preflight.md", "instructions.md"),
]


@pytest.mark.parametrize("page", PLAIN)
def test_the_commands_of_a_page_work(workplace: Path, demo: Path, typed: Callable[[str], str], page: str) -> None:
    shown = commands(ROOT / "docs" / page)
    assert shown
    if page == "newcomer.md":
        _own_code(workplace)
    if page == "instructions.md":
        [lines] = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)
        (workplace / "instructions.jsonl").write_text(lines, encoding="utf-8")
    for command in shown:
        assert typed(command)


def _own_code(workplace: Path) -> None:
    """What the newcomer has: a folder of code, and the page's configuration."""
    [configuration] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "newcomer.md").read_text("utf-8"), re.DOTALL)
    (workplace / "mine.yaml").write_text(configuration, encoding="utf-8")
    shutil.copytree(ROOT / "tests" / "sources", workplace.parent / "my-project" / "src")


def test_the_commands_of_the_cluster_page_work(workplace: Path, demo: Path) -> None:
    shown = commands(ROOT / "docs" / "cluster.md")
    box = [command for command in shown if BOX in command]
    assert shown[:2] == ["codeio site init", "codeio site check"]
    assert box[0] == f"{BOX} up" and box[-1] == f"{BOX} down"
    run(workplace, box[0])
    for command in shown[:2]:
        run(workplace, f"{BOX} run -- {command}")
    facts = (workplace / "configs/sites/box.yaml").read_text(encoding="utf-8")  # 16 ranks would be too many here
    (workplace / "configs/sites/default.yaml").write_text(facts.replace("name: box", "name: default"), encoding="utf-8")
    _look_at_the_nodes(workplace)
    for command in [command for command in shown[2:] if command not in box]:
        output = run(workplace, f"{BOX} run -- bash -c '{command}'")
        _wait_for_jobs(workplace, output)
    for command in box[1:]:
        _wait_for_jobs(workplace, run(workplace, command))
    logs = "".join(log.read_text(encoding="utf-8") for log in workplace.glob("codeio-*.out"))
    assert "this job lacks what the site file says" in logs
    assert "nothing was missing" in logs
    assert "stage1 already finished" in logs and "stage2 already finished" in logs


def _look_at_the_nodes(workplace: Path) -> None:
    """The command of the doctor page that needs a cluster. The box's GPUs are names only, and that is what it finds."""
    [command] = [command for command in commands(ROOT / "docs" / "doctor.md") if "--compute" in command]
    found = json.loads(run(workplace, f"{BOX} run -- {command} || true"))["findings"]
    assert {each["name"] for each in found if each["verdict"] == "fail"} == {"GPU driver"}
    assert {each["where"] for each in found} == {"login", "c1 (cpu)", "g1 (gpu)", "g1 (train)"}


def test_the_commands_of_the_doctor_page_work_without_a_cluster(workplace: Path, demo: Path) -> None:
    here = [command for command in commands(ROOT / "docs" / "doctor.md") if "--compute" not in command]
    assert here == ["codeio doctor", "codeio doctor --run runs/demo", "codeio doctor sandbox"]
    assert "no run was named" in run(workplace, here[0])
    assert re.search(r"stage1: 2 micro-batches of .* s and a save of .* s", run(workplace, here[1]))
    assert "level nsjail" in run(workplace, here[2])


def test_the_policy_on_the_cluster_page_is_valid() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text("utf-8"), re.DOTALL)
    assert Policy.model_validate(yaml.safe_load(text)).max_tasks_at_once == 32


def test_the_command_of_the_sandbox_page_answers_the_requests_of_the_page(workplace: Path) -> None:
    page = ROOT / "docs" / "sandbox.md"
    requests = re.findall(r"```json\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    (workplace / "requests.jsonl").write_text(requests, encoding="utf-8")
    [command] = commands(page)
    run(workplace, command)
    results = [json.loads(line) for line in (workplace / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [result["results"][0]["output"] for result in results] == [9, 16]


def _wait_for_jobs(workplace: Path, output: str) -> None:
    if "Submitted batch job" not in output:
        return
    deadline = time.monotonic() + 180
    while run(workplace, f"{BOX} run -- squeue -h"):
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.long
def test_the_demo_on_a_cluster(workplace: Path) -> None:
    assert "make demo-cluster" in commands(ROOT / "README.md")
    run(workplace, "make demo-cluster", timeout=1800)
    assert (workplace / "runs/demo-cluster/report/index.html").is_file()


def test_the_sources_page_shows_a_configuration_that_is_valid() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "sources.md").read_text("utf-8"), re.DOTALL)
    config = RunConfig.model_validate({"name": "t", **yaml.safe_load(text)})
    assert {source.name for source in config.sources} == {
        "mine",
        "numpy",
        "stdlib",
        "pyedu",
        "stack",
        "reasoning-gym",
        "transformed",
    }


def test_the_instructions_page_shows_a_configuration_that_is_valid_and_says_what_is_left_of_its_file() -> None:
    page = (ROOT / "docs" / "instructions.md").read_text("utf-8")
    [text] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    config = RunConfig.model_validate(yaml.safe_load(text))
    assert [source.name for source in config.samples] == ["code", "maths", "chats"]
    assert set(re.findall(r"^\| `([a-z0-9-]+\.yaml)`", page, re.M)) == {
        path.name for path in (ROOT / "configs" / "runs" / "training").glob("*.yaml")
    }


def test_no_command_is_shown_that_no_test_runs() -> None:
    cluster = set(commands(ROOT / "docs" / "cluster.md"))
    tested = {"README.md": {"make demo", "make test", "make demo-cluster"} | cluster, "cluster.md": cluster}
    tested |= {name: set(commands(ROOT / "docs" / name)) for name in PLAIN}
    tested["doctor.md"] = set(commands(ROOT / "docs" / "doctor.md"))
    tested["sandbox.md"] = set(commands(ROOT / "docs" / "sandbox.md"))
    for page in PAGES:
        assert set(commands(page)) <= tested.get(page.name, set()), page.name


def test_make_test_runs_all_tests() -> None:
    """`make test`, the README's second command, is what is running now; here is what it would do."""
    result = subprocess.run(["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(r'pytest .*-m "not long" tests', result.stdout)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
