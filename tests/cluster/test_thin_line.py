"""The main job on a real cluster: the dataset as job arrays, both training stages as typed, and preemption of each."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.launch.attempts import Attempt, read_attempts
from tests.conftest import CONFIG, dataset_bytes
from tests.train.tiny_run import metrics

from .conftest import ROOT, SlurmBox

RECIPE = f"""
name: short
model: {ROOT}/configs/models/tiny
initial: random
sequence_length: 1024
stages:
  stage1: {{schedule: constant, lr: 1.0e-3, batch_size: 6, batch_unit: sequences, steps: 40, save_every: 5}}
  stage2: {{schedule: cosine, lr: 1.0e-3, min_lr: 1.0e-4, batch_size: 6, batch_unit: sequences, steps: 6}}
"""
ENVIRONMENT = {"CODEIO_SITE": "box", "CODEIO_PYTHON": sys.executable}
CODEIO = [sys.executable, "-m", "codeio_hpc"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's folder as a user has it, with a configuration that is built in seconds."""
    folder = tmp_path_factory.mktemp("house")
    for name in ("slurm", "configs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "runs").mkdir()
    (folder / "short.yaml").write_text(RECIPE, encoding="utf-8")
    config = re.sub(r"recipe: .*", f"recipe: {folder}/short.yaml", CONFIG) + "launch: {tasks: 4}\n"
    config = config.replace("pairs: 4", "pairs: 24")  # a task takes long enough to be preempted in the middle
    (folder / "small.yaml").write_text(config, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def local(house: Path) -> dict[str, str]:
    """The files of a dataset built on this machine, without SLURM."""
    subprocess.run([*CODEIO, "build", "small.yaml", "--run", "runs/local"], cwd=house, check=True, capture_output=True)
    return dataset_bytes(house / "runs" / "local")


@pytest.fixture(scope="module")
def trained(slurm_box: SlurmBox, house: Path, local: dict[str, str]) -> Path:
    """The run with stage 1 trained on two nodes with two ranks each, by a job that was submitted as typed."""
    first = slurm_box.sbatch("slurm/stage1.sh", "runs/local", env=ENVIRONMENT, cwd=house)
    job = submitted_by(slurm_box, house, first)
    record = slurm_box.wait_job(job, timeout=300)[0]
    assert (record["JobState"], record["NumNodes"], record["Partition"]) == ("COMPLETED", "2", "gpu_low"), log(
        house, job
    )
    assert record["Restarts"] == "0"
    return house / "runs" / "local"


def submitted_by(box: SlurmBox, house: Path, job: str) -> str:
    """The job that the typed one submitted in its place."""
    box.wait_job(job)
    found = re.search(r"submitted it with them as job (\d+)", log(house, job))
    assert found, log(house, job)
    return found.group(1)


def log(house: Path, job: str) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in house.glob(f"codeio-*-{job}.out"))


def wait_for(condition: Callable[[], Any], timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def test_arrays_over_four_nodes_give_the_dataset_that_one_machine_gives(
    slurm_box: SlurmBox, house: Path, local: dict[str, str]
) -> None:
    command = [*CODEIO, "build", "small.yaml", "--run", "runs/arrays", "--site", "box"]
    slurm_box.run(command, cwd=house)
    again = json.loads(slurm_box.run([*command, "--json"], cwd=house).stdout)
    assert again["at_work"] and again["submitted"] is None, "what is being done is not submitted a second time"
    result = slurm_box.run([*command, "--wait", "--json"], cwd=house, timeout=240)
    assert json.loads(result.stdout)["state"] == "complete"
    assert dataset_bytes(house / "runs" / "arrays") == local
    hosts = {attempt.host for attempt in read_attempts(house / "runs" / "arrays")}
    assert hosts == {"c1", "c2", "c3", "c4"}
    wait_for(lambda: not slurm_box.squeue())


def test_a_preempted_data_task_comes_back_by_itself(slurm_box: SlurmBox, house: Path, local: dict[str, str]) -> None:
    run = house / "runs" / "preempted-data"
    slurm_box.sbatch("slurm/dataset.sh", "small.yaml", "--run", str(run), env=ENVIRONMENT, cwd=house)

    def at_work_on_c2() -> list[Attempt]:
        return [a for a in read_attempts(run) if a.host == "c2" and a.cause is None and a.step]

    wait_for(at_work_on_c2)
    [victim] = at_work_on_c2()
    slurm_box.sbatch("-p", "cpu", "--exclusive", "--nodelist=c2", "-o", "/dev/null", "--wrap=sleep 1")
    wait_for(lambda: not slurm_box.squeue(), timeout=240)
    assert dataset_bytes(run) == local
    starts = [a for a in read_attempts(run) if (a.step, a.task) == (victim.step, victim.task)]
    assert max(a.restart for a in starts) == 1, starts


def test_stage_2_follows_on_the_same_nodes(slurm_box: SlurmBox, house: Path, trained: Path) -> None:
    assert len(metrics(trained)) == 40
    command = [*CODEIO, "train", "runs/local", "--stage", "stage2", "--site", "box", "--json"]
    submitted = json.loads(slurm_box.run(command, cwd=house, env={"CODEIO_HOME": str(ROOT)}).stdout)
    job = submitted["job"]
    assert (submitted["nodes"], submitted["ranks_per_node"], submitted["state"]) == (2, 2, "submitted")
    record = slurm_box.wait_job(job, timeout=300)[0]
    assert (record["JobState"], record["NumNodes"]) == ("COMPLETED", "2"), log(house, job)
    assert Path(submitted["log"]).read_text(encoding="utf-8") == log(house, job), "submitted once, with all flags"
    assert "6 steps, from models/stage1, with a fresh optimiser, 4 ranks" in log(house, job)
    assert len(metrics(trained, "stage2")) == 6
    again = json.loads(slurm_box.run(command, cwd=house, env={"CODEIO_HOME": str(ROOT)}).stdout)
    assert (again["state"], again["steps"]) == ("already finished", 6) and not slurm_box.squeue()


@pytest.mark.long  # as the drill does, which the page about clusters shows, so that it is run with the short tests
def test_preempted_training_comes_back_by_itself_and_its_losses_are_the_same_bits(
    slurm_box: SlurmBox, house: Path, trained: Path
) -> None:
    run = house / "runs" / "preempted"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("models", "checkpoints", "train"))
    first = slurm_box.sbatch("slurm/stage1.sh", str(run), env=ENVIRONMENT, cwd=house)
    job = submitted_by(slurm_box, house, first)
    wait_for(lambda: len(metrics(run)) >= 13, timeout=240)
    rival = ["-p", "gpu", "-A", "research", "-N2", "--exclusive", "-o", "/dev/null", "--wrap=sleep 1"]
    slurm_box.wait_job(slurm_box.sbatch(*rival), timeout=120)
    record = slurm_box.wait_job(job, timeout=300)[0]
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "1"), log(house, job)
    resumed = re.search(r"stage1: 40 steps, from step (\d+)", log(house, job))
    assert resumed and 10 <= int(resumed.group(1)) < 40, log(house, job)
    assert metrics(run) == metrics(trained)
    weights = Path("models/stage1/model.safetensors")
    assert (run / weights).read_bytes() == (trained / weights).read_bytes()
    assert os.listdir(run / "checkpoints" / "stage1")
