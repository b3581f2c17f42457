"""The drill on a real SLURM: by a job that comes first, and by scontrol requeue."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, SlurmBox

COMMAND = [sys.executable, "-m", "codeio_hpc", "drill", "--ranks-per-node", "2", "--patience", "8"]


def drill(box: SlurmBox, folder: Path, *options: str) -> dict[str, Any]:
    """What it says, with its folder's content; its jobs are gone."""
    done = box.run([*COMMAND, "--json", *options], cwd=folder, env={"CODEIO_HOME": str(ROOT)}, timeout=900)
    assert not box.squeue("--states=PENDING,RUNNING", "--name=codeio-stage1")
    report: dict[str, Any] = json.loads(done.stdout)
    assert json.loads((Path(report["folder"]) / "drill.json").read_text(encoding="utf-8")) == report
    assert report["identical"] and not report["differing"]
    for each in report["rounds"]:
        assert each["signal"] in ("SIGUSR1", "SIGTERM") and 0 <= each["notice"] < 60
        assert list(each["restart"]) == ["queue", "batch script", "libraries", "loading", "first step"]
        assert each["restart_seconds"] == pytest.approx(sum(each["restart"].values()))
        assert each["restart"]["queue"] >= 5, "the box holds back a requeued job so long (cred_expire)"
        assert each["lost_steps"] <= 4
        if each["save"]["on_notice"]:
            assert each["lost_steps"] == 0 and 0 < each["save"]["blocked"] <= each["save"]["published"] < 60
    return report


@pytest.mark.long  # the page about clusters has this command, so it is run with the short tests too
def test_a_job_that_comes_first_preempts_it_and_the_bits_are_the_same(slurm_box: SlurmBox, tmp_path: Path) -> None:
    report = drill(slurm_box, tmp_path, "--site", "box", "--nodes", "1", "--steps", "24")
    assert report["way"] == "preempted by a job that comes first (partition gpu)"
    assert len(report["rounds"]) == report["asked"] == 1
    assert report["folder"] == str(tmp_path / "runs" / "drill-box")


INTERRUPTED = """
"$@" &
until [[ -n $(squeue --noheader --name codeio-stage1) ]]; do kill -0 $! && sleep 0.2; done
kill -TERM $!
wait $!
"""


def test_when_interrupted_it_takes_its_jobs_with_it(slurm_box: SlurmBox, tmp_path: Path) -> None:
    command = ["bash", "-ec", INTERRUPTED, "bash", *COMMAND, "--site", "box", "--nodes", "1"]
    done = slurm_box.run(command, cwd=tmp_path, env={"CODEIO_HOME": str(ROOT)}, timeout=240, check=False)
    assert done.returncode == 130, done.stderr
    assert "what the drill had submitted is cancelled" in done.stderr and "Traceback" not in done.stderr
    assert not slurm_box.squeue("--states=PENDING,RUNNING", "--name=codeio-stage1")
    assert (tmp_path / "runs" / "drill-box" / "undisturbed" / "run.json").exists()


@pytest.mark.long
def test_without_anybody_who_comes_first_it_requeues_and_says_what_that_does_not_show(
    slurm_box: SlurmBox, tmp_path: Path
) -> None:
    text = (ROOT / "configs" / "sites" / "box.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines(keepends=True) if "preempted_by" not in line]
    (tmp_path / "plain.yaml").write_text("".join(lines), encoding="utf-8")
    report = drill(slurm_box, tmp_path, "--site", "./plain.yaml", "--steps", "40", "--times", "3")
    assert "scontrol requeue" in report["way"] and "names nobody who comes first" in report["shows_not"]
    assert len(report["rounds"]) == 3
