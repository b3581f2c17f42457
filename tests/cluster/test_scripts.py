"""The batch scripts on a real SLURM. A recording program stands in for training; all else is real."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from .conftest import ROOT, SlurmBox, a_box

SCRIPTS = sorted((ROOT / "slurm").glob("*.sh"))

STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, signal, sys, time
if sys.argv[3:4] == ["site"]:  # the site verbs are the real ones
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
env, here = os.environ, pathlib.Path(os.environ["RECORDS"])
attempt, rank = env.get("SLURM_RESTART_COUNT", "0"), env.get("SLURM_PROCID", "0")
received = []
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, frame: received.append(number))
name = here / f"{{env['SLURM_JOB_ID']}}-{{attempt}}-{{rank}}.json"
name.write_text(json.dumps({{"arguments": sys.argv[3:], "host": os.uname().nodename, "env": dict(env)}}))
behaviour = env.get("BEHAVIOUR", "0").split(",")
code = behaviour[min(int(attempt), len(behaviour) - 1)]  # the exit code of each attempt; "wait:85" waits for a signal
if code.startswith("wait:"):
    while not received:
        time.sleep(0.05)
    time.sleep(int(rank))  # ranks do not end at the same moment: the last one later than KillWait
sys.exit(int(code.removeprefix("wait:")))
"""


@dataclass
class Checkout:
    """A copy of the project's folder as a user has it, on a cluster."""

    box: SlurmBox
    folder: Path

    def sbatch(self, *arguments: str, **variables: str) -> str:
        """Submit from the folder, as typed by a user whose site is the box."""
        env = {
            "CODEIO_SITE": "box",
            "CODEIO_PYTHON": str(self.folder / "python"),
            "RECORDS": str(self.folder / "records"),
            "OMP_NUM_THREADS": "7",  # the site's environment says something else
            **variables,
        }
        return self.box.sbatch(*arguments, env=env, cwd=self.folder)

    def log(self, job: str, name: str = "stage1") -> str:
        return (self.folder / f"codeio-{name}-{job}.out").read_text()

    def submitted_by(self, job: str, name: str = "stage1") -> str:
        """The job that a job submitted in its place."""
        assert self.box.wait_job(job)[0]["JobState"] == "COMPLETED", self.log(job, name)
        found = re.search(r"submitted it with them as job (\d+)", self.log(job, name))
        assert found, self.log(job, name)
        return found.group(1)

    def records(self, job: str, attempt: int = 0) -> list[dict[str, Mapping[str, str]]]:
        """What each rank of an attempt saw."""
        paths = sorted((self.folder / "records").glob(f"{job}-{attempt}-*.json"))
        return [json.loads(path.read_text()) for path in paths]

    def wait_for_ranks(self, job: str, count: int, attempt: int = 0) -> None:
        deadline = time.monotonic() + 30
        while len(self.records_started(job, attempt)) < count:
            assert time.monotonic() < deadline, self.log(job)
            time.sleep(0.1)

    def records_started(self, job: str, attempt: int) -> list[Path]:
        return [path for path in (self.folder / "records").glob(f"{job}-{attempt}-*.json") if path.stat().st_size]


@pytest.fixture
def checkout(slurm_box: SlurmBox, tmp_path: Path) -> Checkout:
    for name in ("slurm", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("records", "runs"):
        (tmp_path / name).mkdir()
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return Checkout(slurm_box, tmp_path)


def test_as_typed_a_stage_submits_itself_once_and_gets_its_nodes_gpus_and_account(checkout: Checkout) -> None:
    before = set(checkout.box.squeue("-t", "all", "-o", "%i"))
    first = checkout.sbatch("slurm/stage1.sh", "runs/mine")
    second = checkout.submitted_by(first)
    record = checkout.box.wait_job(second)[0]
    assert record["JobState"] == "COMPLETED", checkout.log(second)
    assert (record["Partition"], record["Account"], record["NumNodes"]) == ("gpu_low", "research", "2")
    assert checkout.box.jobs(first)[0]["Partition"] == "cpu"
    assert "lacks what the site file says: --partition=gpu_low --account=research --nodes=2" in checkout.log(first)
    assert set(checkout.box.squeue("-t", "all", "-o", "%i")) - before == {first, second}
    assert not checkout.records(first)

    ranks = checkout.records(second)
    assert sorted(rank["env"]["SLURM_PROCID"] for rank in ranks) == ["0", "1", "2", "3"]
    assert sorted(rank["host"] for rank in ranks) == ["g1", "g1", "g2", "g2"]
    for rank in ranks:
        assert rank["arguments"] == ["train", "runs/mine", "--stage", "stage1"]
        assert rank["env"]["MASTER_ADDR"] == "g1"
        assert 10000 <= int(rank["env"]["MASTER_PORT"]) < 31000
        assert rank["env"]["SLURM_NTASKS"] == "4"
        assert rank["env"]["CUDA_VISIBLE_DEVICES"] == "0,1"
        assert rank["env"]["OMP_NUM_THREADS"] == "1"  # a line of the site's environment
        assert rank["env"]["HF_HUB_OFFLINE"] == "1"
    assert re.search(
        rf"== attempt 0 starts on g1 at \S+, job {second}\n   code \w+, configuration none, until \d\S+Z\n   "
        r"codeio-stage1 on nodes g\[1-2\], ranks 4",
        checkout.log(second),
    )


@pytest.mark.parametrize("stage", ["stage2", "rft"])
def test_a_job_that_was_given_its_allocation_does_not_submit(checkout: Checkout, stage: str) -> None:
    flags = ["-p", "gpu", "-A", "research", "-N2", "--ntasks-per-node=2", "--gpus-per-node=2", "--time=20"]
    site = checkout.folder / "gpu.yaml"
    site.write_text(
        (ROOT / "configs/sites/box.yaml").read_text().replace("partition: gpu_low", 'partition: "gpu,gpu_low"')
    )
    job = checkout.sbatch(*flags, f"slurm/{stage}.sh", CODEIO_SITE=str(site))
    assert checkout.box.wait_job(job)[0]["JobState"] == "COMPLETED"
    assert [rank["arguments"] for rank in checkout.records(job)] == [["train", "runs/latest", "--stage", stage]] * 4


def test_flags_that_do_not_give_what_they_ask_end_in_an_error_not_in_a_circle(checkout: Checkout) -> None:
    job = checkout.sbatch("slurm/stage1.sh", CODEIO_SUBMITTED="1")
    record = checkout.box.wait_job(job)[0]
    assert (record["JobState"], record["ExitCode"]) == ("FAILED", "64:0")
    assert "submitted with the site's flags, this job still lacks: --partition=gpu_low" in checkout.log(job)


def test_a_signal_reaches_the_ranks_and_a_saved_job_is_requeued(checkout: Checkout) -> None:
    site = checkout.folder / "silent.yaml"
    site.write_text((ROOT / "configs/sites/box.yaml").read_text().replace("warned: true", "warned: false"))
    job = checkout.submitted_by(checkout.sbatch("slurm/stage1.sh", CODEIO_SITE=str(site), BEHAVIOUR="wait:85,0"))
    checkout.wait_for_ranks(job, 4)
    checkout.box.run(["scancel", "--batch", "--signal=USR1", job])  # to the batch shell only, as --signal=B: does
    record = checkout.box.wait_job(job)[0]
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "1"), checkout.log(job)
    assert len(checkout.records(job, attempt=1)) == 4
    assert checkout.records(job, attempt=1)[0]["env"]["SLURM_RESTART_COUNT"] == "1"
    log = checkout.log(job)  # of both attempts: it was not cut
    assert log.index("attempt 0 starts") < log.index("== state saved; starting again") < log.index("attempt 1 starts")


def one_rank_site(checkout: Checkout, max_requeues: int) -> str:
    site = checkout.folder / "one.yaml"
    train = "train: {partition: cpu, time: 10m}"
    site.write_text(f"name: one\nresources:\n  cpu: {{time: 5m}}\n  {train}\nmax_requeues: {max_requeues}\n")
    return str(site)


def test_requeuing_is_bounded(checkout: Checkout) -> None:
    job = checkout.sbatch("slurm/stage1.sh", CODEIO_SITE=one_rank_site(checkout, 0), BEHAVIOUR="85")
    record = checkout.box.wait_job(job)[0]
    assert (record["JobState"], record["ExitCode"], record["Restarts"]) == ("FAILED", "85:0", "0")
    assert "not started again: it was 0 times" in checkout.log(job)


def test_after_a_passing_failure_another_node_is_tried(checkout: Checkout) -> None:
    job = checkout.sbatch("slurm/stage1.sh", CODEIO_SITE=one_rank_site(checkout, 5), BEHAVIOUR="75,0")
    record = checkout.box.wait_job(job)[0]
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "1"), checkout.log(job)
    assert checkout.records(job, 0)[0]["host"] != checkout.records(job, 1)[0]["host"]


@pytest.mark.parametrize(
    ("code", "says"), [("64", "wrong configuration: not started again"), ("3", "attempt 0 ends: exit code 3")]
)
def test_a_failure_keeps_the_program_s_exit_code(checkout: Checkout, code: str, says: str) -> None:
    job = checkout.submitted_by(checkout.sbatch("slurm/stage1.sh", BEHAVIOUR=code))
    record = checkout.box.wait_job(job)[0]
    ended = (record["JobState"], record["ExitCode"], record["Restarts"])
    assert ended == ("FAILED", f"{code}:0", "0"), checkout.log(job)
    assert says in checkout.log(job)


def test_a_preempted_training_job_comes_back_by_itself(checkout: Checkout) -> None:
    job = checkout.submitted_by(checkout.sbatch("slurm/stage1.sh", BEHAVIOUR="wait:85,0"))
    checkout.wait_for_ranks(job, 4)
    rival = checkout.box.sbatch(
        "-p", "gpu", "-A", "research", "-N2", "--exclusive", "-o", "/dev/null", "--wrap=sleep 1"
    )
    assert checkout.box.wait_job(rival)[0]["JobState"] == "COMPLETED"
    record = checkout.box.wait_job(job)[0]
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "1"), checkout.log(job)
    assert len(checkout.records(job, attempt=1)) == 4


def test_the_dataset_script_is_a_small_job_that_calls_build(checkout: Checkout) -> None:
    ways = {"SQUEUE_STATES": "PENDING", "SLURM_TIME_FORMAT": "relative"}  # of looking at the queue
    first = checkout.sbatch("slurm/dataset.sh", "configs/runs/demo.yaml", "seed=3", **ways)
    job = checkout.submitted_by(first, "dataset")
    assert checkout.box.wait_job(job)[0]["JobState"] == "COMPLETED", checkout.log(job, "dataset")
    (record,) = checkout.records(job)
    assert record["arguments"] == ["build", "configs/runs/demo.yaml", "seed=3", "--site", "box"]
    assert 1500 < float(record["env"]["CODEIO_DEADLINE"]) - time.time() < 1800


def test_from_another_folder_one_line_says_what_to_do(slurm_box: SlurmBox, tmp_path: Path) -> None:
    job = slurm_box.sbatch(ROOT / "slurm" / "stage1.sh", cwd=tmp_path)
    assert slurm_box.wait_job(job)[0]["ExitCode"] == "64:0"
    assert (
        tmp_path / f"codeio-stage1-{job}.out"
    ).read_text() == f"not in {tmp_path}: export CODEIO_HOME=/path/to/codeio-hpc\n"


def test_an_installation_elsewhere_is_used_and_nothing_is_written_into_it(
    checkout: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("my place")
    before = sorted(path.name for path in checkout.folder.iterdir())
    env = {
        "CODEIO_HOME": str(checkout.folder),
        "CODEIO_SITE": "box",
        "CODEIO_PYTHON": str(checkout.folder / "python"),
        "RECORDS": str(checkout.folder / "records"),
    }
    first = checkout.box.sbatch(checkout.folder / "slurm" / "stage1.sh", "runs/mine", env=env, cwd=place)
    assert checkout.box.wait_job(first)[0]["JobState"] == "COMPLETED"
    found = re.search(r"submitted it with them as job (\d+)", (place / f"codeio-stage1-{first}.out").read_text())
    assert found
    assert checkout.box.wait_job(found[1])[0]["JobState"] == "COMPLETED"
    ranks = checkout.records(found[1])
    assert {rank["env"]["PWD"] for rank in ranks} == {str(place)}
    typed = [checkout.folder / "slurm" / "dataset.sh", "configs/runs/demo.yaml"]  # which is the installation's
    job = checkout.box.sbatch("-p", "scavenge", "--time=20", *typed, env=env, cwd=place)
    assert checkout.box.wait_job(job)[0]["JobState"] == "COMPLETED"
    demo = hashlib.sha256((ROOT / "configs/runs/demo.yaml").read_bytes()).hexdigest()[:12]
    log = (place / f"codeio-dataset-{job}.out").read_text()
    assert f"configuration {demo}, until " in log and "configured by configs/runs/demo.yaml\n" in log
    assert {rank["env"]["CODEIO_LOG"] for rank in ranks} == {f"{place}/codeio-stage1-{found[1]}.out"}
    assert sorted(path.name for path in checkout.folder.iterdir()) == before


def test_the_scripts_carry_nothing_of_any_site() -> None:
    assert [path.name for path in SCRIPTS] == ["dataset.sh", "rft.sh", "stage1.sh", "stage2.sh"]
    for path in SCRIPTS:
        options = re.findall(r"^#SBATCH (--[a-z-]+)", path.read_text(), flags=re.MULTILINE)
        assert set(options) <= {"--job-name", "--output", "--open-mode", "--requeue", "--time", "--signal"}, path


def test_the_scripts_pass_shellcheck() -> None:
    paths = [str(path.relative_to(ROOT)) for path in [*SCRIPTS, *(ROOT / "slurm" / "lib").glob("*.sh")]]
    result = subprocess.run(
        ["shellcheck", "-x", *paths, "tools/slurm-in-a-box/box"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout


def test_where_slurm_requeues_by_itself_that_is_bounded_too(checkout: Checkout) -> None:
    with a_box() as box:
        with (box.folder / "etc" / "slurm.conf").open("a", encoding="utf-8") as conf:
            conf.write("RequeueExit=85\n")
        box.run(["scontrol", "reconfigure"])
        own = replace(checkout, box=box)
        site = Path(one_rank_site(own, 1))
        site.write_text(site.read_text() + "requeue: slurm\n")
        job = own.sbatch("slurm/stage1.sh", CODEIO_SITE=str(site), BEHAVIOUR="85")
        box.wait_until(job, ["FAILED"])
        record = box.jobs(job)[0]
        assert (record["ExitCode"], record["Restarts"]) == ("1:0", "1"), own.log(job)
    assert re.findall(r"^== state saved; (.*)", own.log(job), re.M) == [
        "starting again",
        "not started again: it was 1 times",
    ]
