"""The check-up of compute nodes: GPUs, the network, and how a node is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.launch import slurm
from codeio_hpc.launch.doctor import compute, finding, gpu, host
from codeio_hpc.launch.doctor.finding import Finding
from codeio_hpc.launch.sites.flags import sbatch_flags

from .recorded_cluster import site

FOUND = Finding("a", "1", "pass", "", "login")

NVIDIA_SMI = """
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.54.15              Driver Version: 550.54.15      CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
|=========================================+========================+======================|
|   0  NVIDIA H100 80GB HBM3          On  | 00000000:18:00.0   Off |                    0 |
| N/A   31C    P0              70W / 700W |      0MiB / 81559MiB   |      0%      Default |
|   1  NVIDIA H100 80GB HBM3          On  | 00000000:2A:00.0   Off |                    0 |
| N/A   33C    P0              71W / 700W |      0MiB / 81559MiB   |      0%      Default |
+-----------------------------------------------------------------------------------------+
"""


def test_gpu_driver() -> None:
    assert gpu.driver_finding(NVIDIA_SMI, True).value == "550.54.15, CUDA up to 12.4, 2 GPUs"
    processes = """| Processes:                                                                              |
|  GPU   GI   CI        PID   Type   Process name                              GPU Memory |
|    0   N/A  N/A      3187      G   /usr/lib/xorg/Xorg                              4MiB |
"""
    assert gpu.driver_finding(NVIDIA_SMI + processes, True).value.endswith(", 2 GPUs")
    assert gpu.driver_finding(None, True).verdict == "fail"
    assert gpu.driver_finding(None, False).verdict == "skipped"


@pytest.mark.parametrize(
    ("runtime", "verdict"),
    [((11, 8), "pass"), ((12, 4), "pass"), ((12, 8), "warn"), ((13, 0), "fail"), (None, "skipped")],
)
def test_cuda_against_the_driver(runtime: tuple[int, int] | None, verdict: str) -> None:
    assert gpu.cuda_finding(gpu.driver_cuda(NVIDIA_SMI), runtime, "torch").verdict == verdict


def test_the_cuda_of_an_image_is_read_from_its_labels() -> None:
    assert gpu.image_cuda("maintainer: x\norg.codeio.cuda: 12.4.1\n") == (12, 4)
    assert gpu.image_cuda('"CUDA_VERSION": "12.8"') == (12, 8)
    assert gpu.image_cuda("org.label-schema.build-date: 1") is None


def test_the_network_against_the_site_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.network_finding(False, site(offline=False)).verdict == "fail"
    for reached, checked in ((True, site(offline=True)), (False, site()), (True, site(offline=False)), (True, None)):
        assert host.network_finding(reached, checked).verdict == "pass"
    assert not host.reaches_outside({"https_proxy": "http://127.0.0.1:1"})


def test_srun_gets_the_class_s_flags_for_one_small_job() -> None:
    flags = compute.node_flags(site(train={"flags": ["--exclusive"]}), "train")
    assert "--nodes=1" in flags and "--ntasks-per-node=1" in flags and "--time=0:05:00" in flags
    assert {"--partition=gpu_low", "--account=research", "--gpus-per-node=2", "--exclusive"} <= set(flags)
    assert not {"--requeue", "--no-requeue"} & set(flags)


def test_the_node_s_answer_is_found_behind_what_a_prolog_prints() -> None:
    answer = {"host": "c1", "time": 1.0, **finding.as_data([FOUND])}
    text = f"Welcome {{}}\n{json.dumps(answer, indent=1)}\n"
    assert compute.read_answer(text) == answer
    with pytest.raises(ValueError, match="printed no answer: bash: no python"):
        compute.read_answer("bash: no python\n")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (slurm.SchedulerError("srun: Unable to allocate resources: Invalid account"), "fail"),
        (slurm.SchedulerError("srun: Unable to allocate resources: Requested nodes are busy"), "skipped"),
        (slurm.SchedulerError("srun: Immediate execution impossible, insufficient priority"), "skipped"),
        (slurm.SchedulerBusyError("srun gave no answer within 360 s; try again later"), "skipped"),
    ],
)
def test_a_node_that_cannot_be_had_is_one_line_and_no_failure_if_others_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, verdict: str
) -> None:
    def refuse(flags: Any, command: Any, seconds: int) -> str:
        raise error

    monkeypatch.setattr(slurm, "run_on_node", refuse)
    [line] = compute.compute_findings(site(), "s", "cpu", tmp_path)
    assert (line.name, line.verdict, line.where) == ("compute node", verdict, "a node (cpu)")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written_is_one_failed_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [line] = compute.compute_findings(site(), "s", "cpu", tmp_path / "file")
    assert line.verdict == "fail" and "not asked" in line.value


def test_a_node_says_whether_the_jobs_that_steer_on_could_submit_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(slurm, "try_submission", asked.append)
    monkeypatch.setattr(compute, "host_findings", lambda *arguments: [])
    monkeypatch.setattr(compute, "_PATIENCE", 0.0)
    answers = [compute.here(site(), each, tmp_path, "none", tmp_path / "meeting") for each in ("cpu", "train")]
    assert [each["name"] for each in answers[0]["findings"]] == ["submission from nodes"]
    assert answers[1]["findings"] == [] and asked == [sbatch_flags(site(), "cpu")]
    refused = compute.submission_from_nodes("sbatch: allocation failure: Access/permission denied")
    assert (refused.verdict, refused.value) == ("warn", "sbatch: allocation failure: Access/permission denied")
    assert "codeio resume RUN --site NAME" in refused.fix


def test_files_that_do_not_appear_on_the_other_host() -> None:
    assert compute.visibility(0.1, 0.1).verdict == "pass"
    assert compute.visibility(0.1, 31.0).verdict == "warn"
    assert "the node does not see" in compute.visibility(None, 0.1).value
    assert compute.visibility(0.1, None).verdict == "fail"


def test_a_clock_is_wrong_only_by_what_is_certain() -> None:
    assert compute.clock_skew(100.0, 101.5, 104.0).verdict == "pass"
    assert compute.clock_skew(100.0, 109.0, 104.0).value == "at least 5.0 s"
    assert compute.clock_skew(100.0, 90.0, 104.0).verdict == "warn"


def test_a_job_is_asked_for_as_if_from_outside_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a job srun would start a step of that job, and a module's SBATCH_ACCOUNT would hide a missing account."""
    names = ("SLURM_JOB_ID", "SBATCH_ACCOUNT", "SRUN_CPUS_PER_TASK")
    for name in names:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/x")
    told = slurm.ask("env")
    assert not any(name in told for name in names)
    assert "SLURM_CONF=/x" in told.splitlines()
