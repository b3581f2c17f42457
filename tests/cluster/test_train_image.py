"""Training in a container on a real SLURM: ranks of two nodes, each started by Apptainer, after a test of the nodes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.containers.image import Image
from tests.train.tiny_run import make_run, metrics

from .conftest import ROOT, SlurmBox


@pytest.mark.long
def test_two_nodes_train_in_the_image_of_the_site_file(slurm_box: SlurmBox, tmp_path: Path, train_image: Image) -> None:
    for name in ("slurm", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    run = make_run(tmp_path / "mine", steps=3)
    train = {"partition": "cpu", "nodes": 2, "time": "10m", "image": str(train_image.sif)}
    site = {
        "name": "image",
        "resources": {"cpu": {"time": "5m"}, "train": train},
        "container": {"runtime": "apptainer", "binds": [str(ROOT / "configs")]},
        "preflight": True,
        "preflight_floor": 0.1,
        "environment": [f'export PATH="{train_image.apptainer.parent}:$PATH" OMP_NUM_THREADS=1'],
    }
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site), encoding="utf-8")
    python = tmp_path / "python"  # the host's, which has no torch
    python.write_text(f'#!/bin/sh\n[ "$3" = site ] || exit 99\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    flags = ["-p", "cpu", "-N2", "--ntasks-per-node=1", "--time=9"]
    environment = {"CODEIO_SITE": "site.yaml", "CODEIO_PYTHON": str(python)}
    job = slurm_box.sbatch(*flags, "slurm/stage1.sh", "mine/run", env=environment, cwd=tmp_path)
    record = slurm_box.wait_job(job, timeout=300)[0]
    log = (tmp_path / f"codeio-stage1-{job}.out").read_text(encoding="utf-8")
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "0"), log
    assert "node test of 2 ranks on 2 nodes, CPU" in log and "all nodes are as good as the others" in log
    assert len(metrics(run)) == 3
    assert (run / "models" / "stage1" / "model.safetensors").is_file()
