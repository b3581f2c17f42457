"""Earlier runs are reused, and nothing of the result shows it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from codeio_hpc.launch.attempts import read_attempts
from tests.conftest import CONFIG, ROOT, SOURCES, dataset_bytes

Config = dict[str, Any]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over two of three files."""
    folder = tmp_path_factory.mktemp("earlier")
    files = folder / "files"
    files.mkdir()
    for name in ("numbers_.py", "texts.py"):
        shutil.copy(SOURCES / name, files)
    build(folder, config_of(files), "first")
    return folder


def config_of(files: Path, **sections: Any) -> Config:
    config: Config = yaml.safe_load(CONFIG)
    config["sources"] = [{"name": "here", "path": str(files), "licence": "MIT"}]
    config["sample"] = {"pairs": 3}
    config["recipe"] = None  # to load a tokenizer takes longer than all the rest
    return config | sections


def build(folder: Path, config: Config, name: str, *arguments: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "codeio_hpc", "build", str(path), "--run", str(folder / name), *arguments]
    subprocess.run([*command, "launch.workers=0"], cwd=ROOT, check=True, capture_output=True)
    return folder / name


def reused(run: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for attempt in read_attempts(run):
        for stage, totals in attempt.stages.items():
            counts[stage] = counts.get(stage, 0) + totals.counts.get("reused", 0)
    return counts


def dataset(run: Path) -> dict[str, str]:
    return {name: digest for name, digest in dataset_bytes(run).items() if "journal" not in name}


def test_a_run_over_more_files_does_the_new_ones_only(earlier: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    shutil.copytree(earlier / "files", files)
    (files / "a_new.py").write_text(
        "def double(text: str) -> str:\n    '''Double a text.'''\n    return text + text\n\n\n"
        "def third(number: int) -> int:\n    return number // 3\n",
        encoding="utf-8",
    )
    config = config_of(files, collect={"files_per_shard": 2})
    plain = build(tmp_path, config, "plain")
    taken = build(tmp_path, config, "taken", f"launch.reuse=[{earlier / 'first'}]")
    assert dataset(taken) == dataset(plain)
    counts = reused(taken)
    assert counts["transform"] == 2 and counts["sample"] > 2 and counts["answer"] > 10
    assert reused(plain)["sample"] == 0
    for name in ("transform", "sample", "answer"):
        rows = sum(attempt.stages[name].rows_in for attempt in read_attempts(taken) if name in attempt.stages)
        assert 0 < counts[name] < rows


def test_a_late_setting_leaves_everything_before_it_as_it_was(earlier: Path, tmp_path: Path) -> None:
    config = config_of(earlier / "files")
    plain = build(tmp_path, config, "plain", "--preset", "rejection-sampling")
    taken = build(tmp_path, config, "taken", "--preset", "rejection-sampling", f"launch.reuse=[{earlier / 'first'}]")
    assert dataset(taken) == dataset(plain)
    counts = reused(taken)
    assert counts["revise"] > 10 and counts["assemble"] == 0
    assert not list(taken.rglob("journal-*")) or all(not path.stat().st_size for path in taken.rglob("journal-*"))


def test_another_seed_or_a_damaged_shard_means_that_the_work_is_done_again(earlier: Path, tmp_path: Path) -> None:
    config = config_of(earlier / "files")
    other = build(tmp_path, config | {"seed": 9}, "other", f"launch.reuse=[{earlier / 'first'}]")
    assert set(reused(other).values()) == {0}
    copy = tmp_path / "copy"
    shutil.copytree(earlier / "first", copy)
    part = copy / "stages" / "04-sample" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-100] + b"x" * 100)
    taken = build(tmp_path, config, "taken", f"launch.reuse=[{copy}]")
    assert dataset(taken) == dataset(earlier / "first")


def test_a_folder_that_is_no_run_is_refused_before_anything_is_built(earlier: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config_of(earlier / "files")), encoding="utf-8")
    command = [sys.executable, "-m", "codeio_hpc", "build", str(path), "--run", str(tmp_path / "run")]
    for wrong in (f"launch.reuse=[{tmp_path}]", "--preset=rejection"):
        ended = subprocess.run([*command, wrong], cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 2 and len(ended.stderr.splitlines()) <= 4 and not (tmp_path / "run").exists()
