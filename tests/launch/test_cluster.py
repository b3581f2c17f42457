"""What slurm.conf and the partitions mean, on recorded answers of SLURM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codeio_hpc.config.site import Preemption
from codeio_hpc.launch.cluster import Cluster
from codeio_hpc.launch.slurm import Association, NodeKind, associations, partitions, partitions_in

from .recorded_cluster import cluster, with_partition


def test_partitions_are_read_with_their_nodes() -> None:
    gpu = cluster().partition("gpu_low")
    assert gpu is not None
    assert gpu.kinds == (NodeKind(2, 32, 256000, 8, "h100"),)
    assert (gpu.minutes, gpu.preempt_mode, gpu.accounts) == (None, "REQUEUE", ())
    default = cluster().partition(None)
    assert default is not None and default.name == "cpu"
    found, unknown = cluster().named("cpu,nowhere")
    assert [each.name for each in found] == ["cpu"] and unknown == ["nowhere"]


def test_nodes_of_several_sizes_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as SLURM 22.05 prints nodes of 2 and of 64 CPUs
    (tmp_path / "sinfo").write_text(
        "#!/bin/sh\n"
        'case " $* " in *" --exact "*) printf "mix|1|2|8000|(null)\\nmix|3|64|256000|(null)\\n" ;;\n'
        '*) echo "mix|4|2+|8000+|(null)" ;; esac\n'
    )
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho PartitionName=mix\n")
    for name in ("sinfo", "scontrol"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    [mix] = partitions()
    assert mix.kinds == (NodeKind(1, 2, 8000, 0, None), NodeKind(3, 64, 256000, 0, None))


def test_a_time_limit_is_read_in_minutes() -> None:
    limited = with_partition(cluster(), "cpu", time_limit="2-03:04:05").partition("cpu")
    assert limited is not None and limited.minutes == 2 * 1440 + 184


@pytest.mark.parametrize(
    ("codes", "owner"),
    [("(null)", "self"), ("85", "slurm"), ("1,80-90", "slurm"), ("8,5", "self"), ("86-99", "self"), ("185", "self")],
)
def test_requeue_exit_is_a_list_of_codes_and_ranges(codes: str, owner: str) -> None:
    assert cluster(RequeueExit=codes).requeue_owner == owner


@pytest.mark.parametrize(
    ("size", "parameters", "most"),
    [("1001", "", 1001), ("1001", "bf_interval=1,max_array_tasks=400", 400), ("300", "max_array_tasks=400", 300)],
)
def test_an_array_has_no_more_elements_than_either_limit(size: str, parameters: str, most: int) -> None:
    assert cluster(MaxArraySize=size, SchedulerParameters=parameters).max_array_tasks == most
    assert Cluster({}, ()).max_array_tasks is None


def test_the_signal_at_preemption_has_two_names() -> None:
    assert cluster().signals_at_preemption
    assert not cluster(SlurmctldParameters="(null)").signals_at_preemption
    assert cluster(SlurmctldParameters="", PreemptParameters="x,send_user_signal").signals_at_preemption


def test_only_partitions_below_the_highest_tier_give_way() -> None:
    modes = {each.name: cluster().preemption(each).mode for each in cluster().partitions}
    assert modes == {"cpu": "off", "scavenge": "requeue", "gpu": "off", "gpu_low": "requeue"}
    everywhere = with_partition(cluster(), "cpu", preempt_mode="REQUEUE")  # as where slurm.conf has one mode for all
    assert everywhere.preemption(everywhere.partitions[0]).mode == "off"


def test_what_happens_to_a_preempted_job() -> None:
    graced = with_partition(cluster(), "scavenge", grace_seconds=120, preempt_mode="CANCEL")
    scavenge = graced.partition("scavenge")
    assert scavenge is not None
    assert graced.preemption(scavenge) == Preemption(mode="cancel", grace_seconds=120, warned=True)
    assert cluster(PreemptType="preempt/none").preemption(scavenge).mode == "off"
    suspended = with_partition(cluster(), "scavenge", preempt_mode="GANG,SUSPEND")  # goes on later by itself
    assert suspended.preemption(suspended.partitions[1]).mode == "off"


def test_partitions_whose_jobs_get_whole_nodes() -> None:
    described = "PartitionName=a OverSubscribe=EXCLUSIVE\nPartitionName=b OverSubscribe=NO"
    one, other = partitions_in(described, "")
    assert (one.exclusive, other.exclusive) == (True, False)
    assert cluster().whole_nodes(one) == "OverSubscribe=EXCLUSIVE"
    assert cluster().whole_nodes(other) is None
    assert cluster(SelectType="select/linear").whole_nodes(other) == "SelectType=select/linear"


def test_only_associations_of_this_cluster_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a shared slurmdbd answers for all of its clusters
    (tmp_path / "sacctmgr").write_text(
        '#!/bin/sh\ncase " $* " in *" cluster=box "*) ;; *) echo "theirs||1" ;; esac\necho "mine||9"\n'
    )
    (tmp_path / "sacctmgr").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert associations("me", cluster().setting("ClusterName")) == [Association("mine", None, 9)]


def test_numbers_and_options_in_settings() -> None:
    assert cluster().number("KillWait") == 2
    assert cluster().number("Nothing") is None
    assert cluster().option("AuthInfo", "cred_expire") == "5"
    assert cluster().option("SchedulerParameters", "max_array_tasks") is None
