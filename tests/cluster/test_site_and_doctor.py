"""A site file guessed from a real SLURM, held against it, and used; the check-up on it and on its nodes."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, SlurmBox

CODEIO = [sys.executable, "-m", "codeio_hpc"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a user works, with the project's site files at hand."""
    (tmp_path / "runs").mkdir()
    return tmp_path


def codeio(
    box: SlurmBox, folder: Path, *arguments: str, code: int = 0, env: dict[str, str] | None = None
) -> dict[str, Any]:
    """What a command says as JSON; it must end with that exit code."""
    variables = {"PYTHONPATH": str(ROOT), "CODEIO_HOME": str(ROOT), **(env or {})}
    done = box.run([*CODEIO, *arguments, "--json"], cwd=folder, env=variables, check=False, timeout=200)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def by_name(data: dict[str, Any], where: str | None = None) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in data["findings"] if where in (None, each["where"])}


def test_a_guessed_file_passes_its_check_and_jobs_submitted_with_it_run(slurm_box: SlurmBox, folder: Path) -> None:
    done = codeio(slurm_box, folder, "site", "init")
    assert done == {"site": "default", "path": "configs/sites/default.yaml", "refused": {}, "absent": []}
    found = by_name(codeio(slurm_box, folder, "site", "check"))
    assert {each["verdict"] for each in found.values()} <= {"pass", "skipped"}
    assert found["train submission"]["verdict"] == "pass"
    for resource_class, ranks in (("cpu", 1), ("gpu", 1), ("train", 16)):
        variables = {"PYTHONPATH": str(ROOT)}
        flags = slurm_box.run([*CODEIO, "site", "flags", resource_class], cwd=folder, env=variables).stdout.split()
        log = folder / f"{resource_class}.out"
        job = slurm_box.sbatch(*flags, f"--output={log}", "--wrap=srun hostname; echo gpus=$SLURM_GPUS_ON_NODE")
        assert slurm_box.wait_job(job)[0]["JobState"] == "COMPLETED"
        lines = log.read_text().splitlines()
        assert len(lines) == ranks + 1, lines
    assert lines[-1] == "gpus=8" and {line[0] for line in lines[:-1]} == {"g"}


def test_the_project_s_own_file_of_the_box_passes(slurm_box: SlurmBox, folder: Path) -> None:
    found = codeio(slurm_box, folder, "site", "check", "--site", "box")
    assert found["counts"]["fail"] == found["counts"]["warn"] == 0, found


@pytest.mark.parametrize(
    ("path", "value", "failing"),
    [
        ("resources.cpu.partition", "nowhere", {"cpu partition", "cpu submission"}),
        ("resources.cpu.cpus_per_rank", 9, {"cpu cpus a node", "cpu submission"}),
        ("resources.train.gpus_per_node", 9, {"train gpus a node", "train submission"}),
        ("resources.train.account", "other", {"train submission"}),
        ("resources.train.nodes", 3, {"train nodes", "train submission"}),
        ("resources.cpu.memory", {"style": "mem", "value": "64G"}, {"cpu memory a node", "cpu submission"}),
        ("resources.gpu.preemption", {"mode": "requeue", "grace_seconds": 300}, {"gpu preemption"}),
        ("max_array_size", 5000, {"max_array_size"}),
        ("requeue", "slurm", {"requeue"}),
    ],
)
def test_each_wrong_statement_fails_in_its_own_line(
    slurm_box: SlurmBox, folder: Path, path: str, value: object, failing: set[str]
) -> None:
    facts = yaml.safe_load((ROOT / "configs" / "sites" / "box.yaml").read_text(encoding="utf-8"))
    *parents, last = path.split(".")
    node = facts
    for name in parents:
        node = node[name]
    node[last] = value
    (folder / "wrong.yaml").write_text(yaml.safe_dump(facts))
    found = codeio(slurm_box, folder, "site", "check", "--site", "./wrong.yaml", code=1)
    assert {each["name"] for each in found["findings"] if each["verdict"] == "fail"} == failing
    assert all(each["fix"] for each in found["findings"] if each["verdict"] == "fail")


def test_the_check_up_on_login_and_nodes(slurm_box: SlurmBox, folder: Path) -> None:
    variables = {"SBATCH_ACCOUNT": "x"}
    data = codeio(slurm_box, folder, "doctor", "--compute", "--site", "box", code=1, env=variables)
    places = sorted({each["where"] for each in data["findings"]}, key=lambda place: place != "login")
    # either node with GPUs may do
    assert {re.sub(r"\d", "", place) for place in places} == {"login", "c (cpu)", "g (gpu)", "g (train)"}
    login = by_name(data, "login")
    assert login["MaxArraySize"]["value"] == "1001"
    assert login["cpu submission"]["verdict"] == "pass"
    assert login["SBATCH_* variables"]["verdict"] == "warn"
    assert login["notice"]["value"].startswith("2 s at preemption")
    for place in places[1:]:
        node = by_name(data, place)
        assert node["run folder, both ways"]["verdict"] == "pass"
        assert node["clock skew"]["verdict"] == "pass"
        assert node["isolation"]["verdict"] in ("pass", "warn")
        assert node["scratch exec"]["verdict"] == "pass"
    assert by_name(data, "c1 (cpu)")["submission from nodes"]["verdict"] == "pass"
    # the box's GPUs are names only: no driver answers, and that is all that fails
    assert {each["name"] for each in data["findings"] if each["verdict"] == "fail"} == {"GPU driver"}
    assert os.listdir(folder / "runs") == []


def test_a_folder_that_nodes_do_not_share_is_found_out(slurm_box: SlurmBox, folder: Path) -> None:
    """A mount that only the login host has stands for a local disk."""
    inside = " ".join([*CODEIO, "doctor", "--compute", "--site", "./cpu.yaml", "--json"])
    facts = yaml.safe_load((ROOT / "configs" / "sites" / "box.yaml").read_text(encoding="utf-8"))
    facts["resources"] = {"cpu": facts["resources"]["cpu"]}
    (folder / "cpu.yaml").write_text(yaml.safe_dump(facts))
    mounted = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else [])]
    script = f"mount -t tmpfs none runs && {inside}"
    done = slurm_box.run(
        [*mounted, "bash", "-c", script], cwd=folder, env={"PYTHONPATH": str(ROOT)}, check=False, timeout=200
    )
    if "mount:" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    lines = by_name(json.loads(done.stdout), "c1 (cpu)")
    assert lines["run folder, both ways"]["verdict"] == "fail"
    assert "the node does not see" in lines["run folder, both ways"]["value"]
