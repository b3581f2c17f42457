"""From a cluster to a site file: sensible choices, reasons for them, nothing lost and nothing half-written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from codeio_hpc.config import parse
from codeio_hpc.config.load import parse_yaml
from codeio_hpc.config.site import Site
from codeio_hpc.errors import UserError
from codeio_hpc.launch import slurm
from codeio_hpc.launch.cluster import Cluster
from codeio_hpc.launch.sites import init
from codeio_hpc.launch.sites.files import load_site
from codeio_hpc.launch.sites.flags import sbatch_flags
from codeio_hpc.launch.sites.guess import guess_classes, ranked
from codeio_hpc.launch.sites.page import render
from codeio_hpc.launch.slurm import partitions_in

from .recorded_cluster import cluster, with_partition

Refusal = Callable[[Sequence[str]], str | None]


def takes_all(flags: Sequence[str]) -> str | None:
    return None


def wants(account: str | None = None, memory: str | None = None, words: str = "Invalid account") -> Refusal:
    """A SLURM that takes jobs with this account and this way of asking for memory only."""

    def refusal(flags: Sequence[str]) -> str | None:
        if account and f"--account={account}" not in flags:
            return words
        styles = [flag.split("=")[0] for flag in flags if flag.startswith("--mem")]
        return None if memory is None or styles == ([memory] if memory != "none" else []) else "memory not so"

    return refusal


def guessed(live: Cluster, refusal: Refusal, accounts: Sequence[str] = ()) -> tuple[Site, str]:
    text = render("new", live, guess_classes(live, accounts, refusal), [], "login")
    return parse(Site, parse_yaml(text, "new.yaml"), "new.yaml"), text


def test_each_class_gets_its_partition_and_the_facts_of_it() -> None:
    site, _ = guessed(cluster(), takes_all)
    cpu, gpu, train = site.resources.cpu, site.resources.gpu, site.resources.train
    assert gpu and train
    assert (cpu.partition, gpu.partition, train.partition) == ("scavenge", "gpu_low", "gpu_low")
    assert (gpu.gpus_per_node, gpu.nodes) == (1, 1)
    assert (train.gpus_per_node, train.ranks_per_node, train.nodes, train.cpus_per_rank) == (8, 8, 2, 4)
    assert cpu.preemption.model_dump() == {"mode": "requeue", "grace_seconds": 0, "warned": True}
    assert cpu.account is None and cpu.memory.style == "mem-per-cpu"
    assert (site.name, site.max_array_size, site.requeue) == ("new", 1001, "self")


def test_the_default_partition_is_taken_where_none_requeues_and_one_that_cancels_comes_last() -> None:
    calm = cluster(PreemptType="preempt/none")
    assert [each.name for each in ranked(calm, gpus=False)] == ["cpu", "scavenge"]
    harsh = with_partition(cluster(), "scavenge", preempt_mode="CANCEL")
    assert [each.name for each in ranked(harsh, gpus=False)] == ["cpu", "scavenge"]
    assert "The cluster's default." in guessed(calm, takes_all)[1]


@pytest.mark.parametrize("style", ["mem-per-cpu", "mem", "none"])
def test_memory_is_asked_for_as_the_site_takes_it(style: str) -> None:
    refusal = wants(memory="none" if style == "none" else f"--{style}")
    site, text = guessed(cluster(), refusal)
    assert site.resources.cpu.memory.style == style
    assert ("SLURM refused" in text) == (style != "mem-per-cpu")


def test_an_account_is_given_only_where_it_is_wanted_and_is_found_in_three_ways() -> None:
    for refusal, accounts, live in (
        (wants("lab"), ["other", "lab"], cluster()),  # sacctmgr, or --account
        (wants("lab", words="use an account, e.g. --account=lab"), [], cluster()),  # the refusal says it
        (wants("lab"), [], with_partition(cluster(), "scavenge", accounts=("lab",))),  # AllowAccounts
    ):
        site, _ = guessed(live, refusal, accounts)
        assert site.resources.cpu.account == "lab"
    assert guessed(cluster(), takes_all, ["lab"])[0].resources.cpu.account is None


@pytest.mark.parametrize("accounts", [3, 7])
def test_a_partition_that_is_not_for_this_user_does_not_use_up_the_tries(accounts: int) -> None:
    asked: list[Sequence[str]] = []

    def refusal(flags: Sequence[str]) -> str | None:
        asked.append(flags)
        if "--partition=scavenge" in flags or "--partition=gpu_low" in flags:
            return "User's group not permitted to use this partition"
        last = wants(f"p{accounts - 1}", memory="--mem")(flags)
        return "--mem-per-cpu is not for users here" if last == "memory not so" else last

    site, text = guessed(cluster(), refusal, [f"p{number}" for number in range(accounts)])
    cpu, gpu, train = site.resources.cpu, site.resources.gpu, site.resources.train
    assert gpu and train and "NOT ACCEPTED" not in text
    assert (cpu.partition, gpu.partition, train.partition) == ("cpu", "gpu", "gpu")
    for resources in (cpu, gpu, train):
        assert (resources.account, resources.memory.style) == (f"p{accounts - 1}", "mem")
    assert train.nodes == 2
    assert len(asked) <= 3 * 2 * 12


def test_a_class_that_slurm_does_not_take_is_marked_so_and_scheduler_is_not_asked_for_ever() -> None:
    asked: list[Sequence[str]] = []

    def refuses(flags: Sequence[str]) -> str:
        asked.append(flags)
        return "no more today"

    site, text = guessed(cluster(), refuses, ["a", "b", "c", "d", "e", "f"])
    assert text.count("NOT ACCEPTED YET. SLURM says: no more today") == 3
    assert site.resources.cpu.partition == "scavenge"
    assert len(asked) <= 3 * 24


def test_a_cluster_without_gpus_gets_no_class_with_them() -> None:
    live = Cluster(cluster().settings, tuple(each for each in cluster().partitions if "gpu" not in each.name))
    site, text = guessed(live, takes_all)
    assert site.resources.gpu is None and site.resources.train is None
    assert "no partition that you see has GPUs" in text


def mixed() -> Cluster:
    """One partition for all: forty nodes without GPUs, eight larger ones with four."""
    nodes = "none|0|0|0|(null)\nbatch|40|64|256000|(null)\nbatch|8|32|512000|gpu:a100:4(S:0-1)\n"
    return Cluster(
        cluster().settings, tuple(partitions_in("PartitionName=none\nPartitionName=batch Default=YES", nodes))
    )


def test_nodes_with_gpus_are_found_in_a_partition_that_has_others_too() -> None:
    site, text = guessed(mixed(), takes_all)
    cpu, gpu, train = site.resources.cpu, site.resources.gpu, site.resources.train
    assert gpu and train and "Left out" not in text and "Others that fit" not in text
    assert (cpu.cpus_per_rank, cpu.memory.value) == (4, "3600M")
    assert (gpu.gpus_per_node, gpu.cpus_per_rank, gpu.memory.value) == (1, 8, "14400M")
    assert (train.nodes, train.gpus_per_node, train.cpus_per_rank) == (2, 4, 8)
    assert "the smallest node has 64." in text and "A node's 32 divided among its GPUs." in text
    assert "# gpu_type: a100" in text


def test_limits_owners_and_flags_follow_slurm_conf() -> None:
    live = cluster(
        RequeueExit="85",
        MaxArraySize="5001",
        SchedulerParameters="max_array_tasks=400",
        SelectType="select/cons_res",
        TmpFS="/local/scratch",
    )
    live = with_partition(live, "scavenge", time_limit="1:30:00")
    site, text = guessed(live, takes_all)
    assert (site.requeue, site.max_array_size, site.scratch) == ("slurm", 400, "/local/scratch")
    assert site.resources.gpu and site.resources.gpu.gpu_flag == "gres"
    assert site.resources.cpu.time == 90
    assert "RequeueExit is 85" in text


def test_where_a_job_gets_whole_nodes_it_asks_for_all_of_their_cpus() -> None:
    assert guessed(cluster(), takes_all)[0].resources.cpu.cpus_per_rank == 4
    for live, reason in (
        (with_partition(cluster(), "scavenge", exclusive=True), "OverSubscribe=EXCLUSIVE"),
        (cluster(SelectType="select/linear"), "SelectType=select/linear"),
    ):
        site, text = guessed(live, takes_all)
        assert (site.resources.cpu.cpus_per_rank, site.resources.cpu.memory.value) == (8, "3600M")
        assert f"A job gets whole nodes ({reason})" in text


def test_jobs_that_are_not_requeued_by_default_ask_for_it() -> None:
    site, text = guessed(cluster(JobRequeue="0"), takes_all)
    assert site.requeue == "self" and "--requeue" in sbatch_flags(site, "train")
    assert "JobRequeue is 0, which" in text


@pytest.mark.parametrize("name", ["2024", "true", "1e5", "null", "lab"])
def test_a_name_stays_a_name_whatever_it_looks_like(on_a_cluster: Path, name: str) -> None:
    done = init.init_site(name, False, [])
    assert load_site(done["path"]).name == name


def test_memory_that_slurm_does_not_know_is_not_said_to_be_refused() -> None:
    nodes = "cpu|4|128|1|(null)\n"  # RealMemory is 1 where slurm.conf does not say
    live = Cluster(cluster().settings, tuple(partitions_in("PartitionName=cpu Default=YES", nodes)))
    site, text = guessed(live, takes_all)
    assert site.resources.cpu.memory.style == "none"
    assert "SLURM refused" not in text and "RealMemory" in text


def test_every_value_has_its_reason_above_it() -> None:
    lines = guessed(cluster(), wants("research"), ["research"])[1].splitlines()
    for above, line in pairwise(lines):
        plain = line.strip()
        if (
            plain
            and not plain.startswith("#")
            and not plain.endswith(":")
            and not plain.startswith(("name", "runtime"))
        ):
            assert above.strip().startswith("#"), line
    assert max(map(len, lines)) <= 120


@pytest.fixture
def on_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(init, "ask_cluster", cluster)
    monkeypatch.setattr(slurm, "try_submission", takes_all)
    monkeypatch.setattr(slurm, "has_pyxis", lambda: True)
    return tmp_path


def test_a_file_that_is_there_is_kept_unless_forced(on_a_cluster: Path) -> None:
    done = init.init_site(None, False, [])
    path = on_a_cluster / done["path"]
    assert done == {"site": "default", "path": "configs/sites/default.yaml", "refused": {}, "absent": []}
    assert "runtime: pyxis" in path.read_text()
    path.write_text("mine")
    with pytest.raises(UserError, match="your own settings may be in it"):
        init.init_site("default", False, [])
    assert path.read_text() == "mine"
    init.init_site("default", True, [])
    assert path.read_text() != "mine"
    assert [entry.name for entry in path.parent.iterdir()] == ["default.yaml"]


def test_nothing_is_written_where_the_scheduler_stops_answering(
    on_a_cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(flags: Sequence[str]) -> str | None:
        raise slurm.SchedulerError("sbatch gave no answer")

    monkeypatch.setattr(slurm, "try_submission", gone)
    with pytest.raises(slurm.SchedulerError):
        init.init_site(None, False, [])
    assert not (on_a_cluster / "configs").exists()


@pytest.mark.parametrize("name", ["../x", "a b", ".x"])
def test_a_name_that_is_no_file_name_is_refused(on_a_cluster: Path, name: str) -> None:
    with pytest.raises(UserError, match="it names a file"):
        init.init_site(name, False, [])
