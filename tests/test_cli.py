"""A user's mistakes end in one clear message and exit code 2, and the command line answers at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

CONFIG = {"name": "t", "sources": [{"name": "here", "path": "code"}]}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that any user may read and write, with a configuration and one source file."""
    folder = Path(tempfile.mkdtemp(prefix="cli-", dir="/tmp"))
    folder.chmod(0o777)
    (folder / "code").mkdir()
    (folder / "code" / "a.py").write_text("def double(number: int) -> int:\n    return 2 * number\n" + "# ok\n" * 20)
    (folder / "t.yaml").write_text(yaml.safe_dump(CONFIG))
    yield folder
    shutil.rmtree(folder)


def codeio(place: Path, *arguments: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*under, sys.executable, "-m", "codeio_hpc", *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """What a refused command says: one message of three parts, nothing else."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    found, why, fix = result.stderr.strip().split("\n")[-3:]
    assert found.startswith("codeio: ") and why.startswith("  why: ") and fix.startswith("  fix: ")
    return result.stderr


def test_a_missing_configuration(place: Path) -> None:
    assert "nowhere.yaml: no such file" in refusal(codeio(place, "build", "nowhere.yaml"))


def test_a_wrong_recipe_is_told_before_anything_is_built(place: Path) -> None:
    """The last stage needs it; a build may take days to get there."""
    message = refusal(codeio(place, "build", "t.yaml", "recipe=models/none.yaml"))
    assert "models/none.yaml: no such file" in message and "there is no folder" in message
    recipe = Path(__file__).parents[1] / "configs" / "models" / "tiny.yaml"
    message = refusal(codeio(place, "build", "t.yaml", f"recipe={recipe}", "tokenise.max_tokens=999999"))
    assert "999999" in message and "tokenise.max_tokens=" in message
    assert not (place / "runs").exists()


@pytest.mark.parametrize("text", ["name: [t", "name: t\n\tsources: x", "- a\n- b", "", "\x00", "name: t\nname: u\n"])
def test_broken_yaml(place: Path, text: str) -> None:
    (place / "broken.yaml").write_text(text)
    assert "broken.yaml" in refusal(codeio(place, "build", "broken.yaml"))
    assert not (place / "runs").exists()


def test_an_unknown_key_is_told_what_it_may_mean(place: Path) -> None:
    message = refusal(codeio(place, "build", "t.yaml", "sample.pears=3"))
    assert "sample.pears" in message and "pairs" in message
    (place / "t.yaml").write_text(yaml.safe_dump({**CONFIG, "sampel": {"pairs": 3}}))
    message = refusal(codeio(place, "build", "t.yaml"))
    assert "sampel" in message and "sample" in message


def test_a_folder_without_sources(place: Path) -> None:
    (place / "empty").mkdir()
    (place / "t.yaml").write_text(yaml.safe_dump({**CONFIG, "sources": [{"name": "here", "path": "empty"}]}))
    assert "empty" in refusal(codeio(place, "build", "t.yaml"))
    (place / "t.yaml").write_text(yaml.safe_dump({**CONFIG, "sources": [{"name": "here", "path": "gone"}]}))
    assert "gone" in refusal(codeio(place, "build", "t.yaml"))
    assert not (place / "runs").exists()


@pytest.mark.parametrize("command", [["status"], ["resume"], ["train", "--stage", "stage1"], ["evaluate"], ["report"]])
def test_a_folder_that_is_no_run(place: Path, command: list[str]) -> None:
    result = codeio(place, command[0], "code", *command[1:])
    assert result.returncode == (64 if command[0] == "train" else 2), result.stderr  # 64: SLURM is not to try again
    assert "run.json" in result.stderr and "Traceback" not in result.stderr


def test_a_file_where_the_run_is_to_be(place: Path) -> None:
    (place / "taken").write_text("")
    assert "taken is a file" in refusal(codeio(place, "build", "t.yaml", "--run", "taken"))


def test_a_file_system_that_refuses_is_told_in_a_line(place: Path) -> None:
    """A run of somebody else's, to which nothing may be added."""
    assert codeio(place, "build", "t.yaml", "sample.pairs=2").returncode == 0
    [pose] = (place / "runs" / "t" / "stages").glob("*-pose")
    pose.rename(place / "pose")
    (place / "runs" / "t" / "attempts").rename(place / "attempts")
    (place / "runs" / "t" / "attempts").write_text("no folder")
    result = codeio(place, "resume", "runs/t")
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert "attempts" in result.stderr


def test_a_dry_run_tells_what_is_missing_and_writes_nothing(place: Path) -> None:
    assert codeio(place, "build", "t.yaml", "sample.pairs=2").returncode == 0
    run = place / "runs" / "t"
    for path in run.glob("stages/*-assemble/*"):
        path.unlink()
    before = sorted(str(path) for path in run.rglob("*"))
    plan = json.loads(codeio(place, "build", "t.yaml", "sample.pairs=2", "--dry-run", "--json").stdout)
    assert [(step["step"], step["tasks"]) for step in plan["steps"]] == [("split-to-assemble", [1])]
    assert sorted(str(path) for path in run.rglob("*")) == before


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf"])
def test_status_is_not_watched_more_often_than_every_second(place: Path, seconds: str) -> None:
    result = codeio(place, "status", "runs/none", f"--watch={seconds}")
    assert result.returncode == 2, result.stderr
    assert f"--watch {float(seconds):g}" in result.stderr and "Traceback" not in result.stderr


def test_an_unreadable_source_is_a_rejected_row_and_costs_nothing_else(place: Path) -> None:
    (place / "code" / "secret.py").write_text("SECRET = 1\n" * 50)
    (place / "code" / "secret.py").chmod(0)
    (place / "code" / "gone.py").symlink_to("nowhere.py")
    (place / "code" / "noise.py").write_bytes(bytes(range(256)) * 8)
    # root reads everything, unless it gives that right away
    modest = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    result = codeio(place, "build", "t.yaml", "sample.pairs=2", under=modest)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    status = json.loads(codeio(place, "status", "runs/t", "--json").stdout)
    collect = next(stage for stage in status["stages"] if stage["stage"] == "collect")
    assert (collect["rows"], collect["rejected"]) == (1, 3)


def test_overrides_may_stand_before_and_behind_options(place: Path) -> None:
    result = codeio(place, "build", "t.yaml", "seed=3", "--dry-run", "--run", "runs/x", "sample.pairs=2")
    assert result.returncode == 0, result.stderr
    assert codeio(place, "build", "t.yaml", "--run", "runs/x", "nonsense").returncode == 2
    assert codeio(place, "status", "runs/x", "seed=3").returncode == 2


def test_help_loads_nothing_heavy() -> None:
    """`codeio --help` stays under 300 ms because of this."""
    program = (
        "import sys\nfrom codeio_hpc.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(result.stderr.replace("'", '"')))
    heavy = {"torch", "transformers", "deepspeed", "pyarrow", "submitit", "numpy", "jinja2", "rich", "pydantic", "yaml"}
    assert not loaded & heavy
    assert "build a dataset" in result.stdout


def test_the_verb_is_found_by_the_stage_s_spelling_too(place: Path) -> None:
    said = [codeio(place, verb, "nowhere", "--recipe", "none", "--run", "new") for verb in ("tokenize", "tokenise")]
    assert refusal(said[0]) == refusal(said[1])
