"""A site file against the recorded cluster: every wrong statement gets its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config.policy import Policy, PolicyFile
from codeio_hpc.config.site import Site
from codeio_hpc.launch.cluster import Cluster
from codeio_hpc.launch.doctor.finding import Finding
from codeio_hpc.launch.doctor.site import file_findings, site_findings

from .recorded_cluster import cluster, site, with_partition


def findings(checked: Site, live: Cluster | None = None, refused: str | None = None) -> dict[str, Finding]:
    return {each.name: each for each in site_findings(checked, live or cluster(), lambda flags: refused)}


def test_a_right_file_passes_every_line() -> None:
    assert {each.verdict for each in findings(site()).values()} == {"pass"}


@pytest.mark.parametrize(
    ("cpu", "line", "verdict", "fix"),
    [
        ({"partition": "nowhere"}, "cpu partition", "fail", "one of cpu, scavenge, gpu, gpu_low"),
        ({"cpus_per_rank": 9}, "cpu cpus a node", "fail", "ask for less"),
        ({"memory": {"style": "mem", "value": "64G"}}, "cpu memory a node", "fail", "ask for less"),
        (
            {"memory": {"style": "mem-per-cpu", "value": "9G"}, "cpus_per_rank": 4},
            "cpu memory a node",
            "fail",
            "ask for less",
        ),
        ({"gpus_per_node": 1}, "cpu gpus a node", "fail", "another partition"),
        ({"partition": "gpu_low", "gpus_per_node": 1, "gpu_type": "a100"}, "cpu gpu type", "fail", "one of: h100"),
        ({"nodes": 5}, "cpu nodes", "fail", "ask for less"),
        ({"preemption": {}}, "cpu preemption", "fail", "mode: requeue"),
        ({"preemption": {"mode": "requeue", "grace_seconds": 60}}, "cpu preemption", "fail", "grace_seconds: 0"),
    ],
)
def test_a_wrong_statement_gets_its_line(cpu: dict[str, Any], line: str, verdict: str, fix: str) -> None:
    found = findings(site(cpu))
    assert found[line].verdict == verdict, found[line]
    assert fix in found[line].fix


def test_facts_about_preemption_that_are_not_stated_are_a_warning() -> None:
    plain = site()
    unstated = plain.resources.cpu.model_validate({"partition": "scavenge", "time": "30m"})
    classes = plain.resources.model_copy(update={"cpu": unstated})
    found = findings(plain.model_copy(update={"resources": classes}))["cpu preemption"]
    assert (found.verdict, found.value) == ("warn", "not stated, so: off")


def test_time_limit_and_mixed_nodes() -> None:
    limited = with_partition(cluster(), "scavenge", time_limit="0:20:00")
    assert findings(site(), limited)["cpu time"].fix == "resources.cpu.time: 20m, or less"
    both = site({"partition": "cpu,scavenge", "time": "24h"})
    for longest, verdict in (("infinite", "warn"), ("1-00:00:00", "warn"), ("12:00:00", "fail")):
        limits = with_partition(with_partition(cluster(), "scavenge", time_limit="4:00:00"), "cpu", time_limit=longest)
        assert findings(both, limits)["cpu time"].verdict == verdict
    assert findings(both, limits)["cpu time"].fix == "resources.cpu.time: 720m, or less"
    small, large = cluster().partition("scavenge"), cluster().partition("gpu")
    assert small and large
    mixed = with_partition(cluster(), "scavenge", kinds=(*small.kinds, *large.kinds))
    assert findings(site({"cpus_per_rank": 16}), mixed)["cpu cpus a node"].verdict == "warn"


def test_a_job_that_gets_whole_nodes_but_asks_for_less_is_a_warning() -> None:
    assert "cpu whole nodes" not in findings(site())
    whole = cluster(SelectType="select/linear")
    found = findings(site(), whole)
    assert (found["cpu whole nodes"].verdict, found["cpu whole nodes"].value) == ("warn", "asks for 1 of 8 CPUs")
    assert (found["train whole nodes"].verdict, found["train whole nodes"].value) == ("warn", "asks for 2 of 8 GPUs")
    assert findings(site({"cpus_per_rank": 8}), whole)["cpu whole nodes"].verdict == "pass"


def test_slurm_s_own_words_are_shown_and_the_line_to_try() -> None:
    found = findings(site(), refused="sbatch: Invalid account")["train submission"]
    assert (found.verdict, found.value) == ("fail", "sbatch: Invalid account")
    assert "sbatch --test-only --partition=gpu_low --account=research" in found.fix


def test_the_array_size_is_held_against_both_limits() -> None:
    assert findings(site(max_array_size=1002))["max_array_size"].fix == "max_array_size: 1001"
    narrow = cluster(SchedulerParameters="max_array_tasks=100")
    assert findings(site(), narrow)["max_array_size"].value == "1001 of 100"
    assert findings(site(), cluster(MaxArraySize="", SchedulerParameters=""))["max_array_size"].verdict == "skipped"


@pytest.mark.parametrize(
    ("owner", "settings", "verdict"),
    [
        ("self", {}, "pass"),
        ("slurm", {"RequeueExit": "85"}, "pass"),
        ("slurm", {}, "fail"),
        ("self", {"RequeueExit": "80-90"}, "fail"),
        ("none", {}, "warn"),
        ("none", {"PreemptType": "preempt/none"}, "pass"),
        ("self", {"JobRequeue": "0"}, "pass"),
    ],
)
def test_exactly_one_brings_a_saved_job_back(owner: str, settings: dict[str, str], verdict: str) -> None:
    assert findings(site(requeue=owner), cluster(**settings))["requeue"].verdict == verdict


def test_where_preempted_jobs_are_cancelled_requeue_is_said_to_do_nothing() -> None:
    harsh = with_partition(cluster(), "scavenge", preempt_mode="CANCEL")
    found = findings(site(), harsh)
    assert found["cpu requeue"].verdict == "warn" and "PreemptMode=CANCEL" in found["cpu requeue"].value
    assert "cpu requeue" not in findings(site(requeue="none"), harsh)


def test_what_needs_no_cluster(tmp_path: Path) -> None:
    image = tmp_path / "exec.sif"
    settings: dict[str, Any] = {"container": {"runtime": "apptainer"}, "scratch": str(tmp_path)}
    checked = site({"image": str(image)}, **settings)
    file = PolicyFile(Path("/etc/p.yaml"), Policy(max_tasks_at_once=8))
    found = {each.name: each for each in file_findings(checked, [file], ["pyxis"])}
    assert (found["container"].verdict, found["cpu image"].verdict) == ("warn", "fail")
    assert found["scratch"].verdict == "pass"
    assert found["policy"].value == "/etc/p.yaml: max_tasks_at_once 8"
    image.touch()
    found = {each.name: each for each in file_findings(checked, [], ["apptainer"])}
    assert (found["container"].verdict, found["cpu image"].verdict) == ("pass", "pass")
    settings["container"] = {"runtime": "pyxis"}
    for name in ("docker://x/y", "ubuntu:22.04"):
        remote = site({"image": name}, **settings)
        assert {each.name: each for each in file_findings(remote, [], [])}["cpu image"].verdict == "warn"
