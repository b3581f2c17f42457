"""The cluster that the other tests stand on: is it a cluster?"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.image import AS_USER, IS_ROOT

from .conftest import BOX, SlurmBox

EXCLUSIVE = ["--exclusive", "--nodelist=c4", "--output=/dev/null"]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="box-", dir="/tmp"))
    yield folder
    subprocess.run([BOX, "down", folder], check=False, capture_output=True, timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def test_all_nodes_come_up_and_have_names(slurm_box: SlurmBox) -> None:
    assert slurm_box.run(["sinfo", "-h", "-N", "-o", "%N %T"]).stdout.count("idle") >= 6
    names = slurm_box.run(["srun", "-N4", "hostname"]).stdout.split()
    assert sorted(names) == ["c1", "c2", "c3", "c4"]
    assert slurm_box.run(["getent", "hosts", "g2"]).stdout.split()[1] == "g2"


def test_an_array_spreads_over_the_nodes(slurm_box: SlurmBox) -> None:
    job = slurm_box.sbatch("--array=0-7", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 1")
    elements = slurm_box.wait_job(job)
    assert len(elements) == 8
    assert {element["JobState"] for element in elements} == {"COMPLETED"}
    assert {element["NodeList"] for element in elements} == {"c1", "c2", "c3", "c4"}


def test_gpus_are_handed_out(slurm_box: SlurmBox) -> None:
    command = ["srun", "-p", "gpu", "-A", "research", "--gpus-per-node=2", "printenv", "CUDA_VISIBLE_DEVICES"]
    assert slurm_box.run(command).stdout.strip() == "0,1"


def test_gpu_partitions_refuse_jobs_without_the_account(slurm_box: SlurmBox) -> None:
    for partition in ("gpu", "gpu_low"):
        for account in ([], ["--account=other"]):
            refused = slurm_box.run(["sbatch", "-p", partition, *account, "--wrap=true"], check=False)
            assert refused.returncode == 1
            assert "wants an account" in refused.stderr
    job = slurm_box.sbatch("-p", "gpu", "-A", "research", "-o", "/dev/null", "--wrap=true")
    assert slurm_box.wait_job(job)[0]["JobState"] == "COMPLETED"


def test_a_job_of_a_higher_tier_preempts_and_the_lower_one_comes_back(slurm_box: SlurmBox) -> None:
    low = slurm_box.sbatch("-p", "scavenge", *EXCLUSIVE, '--wrap=[ -n "$SLURM_RESTART_COUNT" ] || sleep 60')
    slurm_box.wait_until(low, ["RUNNING"])
    high = slurm_box.sbatch("-p", "cpu", *EXCLUSIVE, "--wrap=sleep 1")
    assert slurm_box.wait_job(high)[0]["JobState"] == "COMPLETED"
    record = slurm_box.wait_job(low)[0]
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "1")


def test_a_node_may_be_named_without_the_folder_of_the_box(tmp_path: Path) -> None:
    for words, says in (
        (["c1"], f"not up in {tmp_path}/codeio-box-"),
        ([tmp_path / "other", "c1"], f"not up in {tmp_path}/other"),
        ([], "which node?"),
    ):
        for verb in ("break-node", "mend-node"):
            env = {**os.environ, "TMPDIR": str(tmp_path)}
            done = subprocess.run([BOX, verb, *words], env=env, capture_output=True, text=True, timeout=60)
            assert done.returncode == 1 and says in done.stderr


def test_a_second_up_is_refused_and_down_leaves_nothing(short_folder: Path) -> None:
    box = SlurmBox(short_folder)
    subprocess.run([BOX, "up", short_folder], check=True, capture_output=True, timeout=60)
    job = box.sbatch("--output=/dev/null", "--wrap=sleep 600")
    box.wait_until(job, ["RUNNING"])
    assert box.processes() >= 8  # a controller, six nodes, a step
    again = subprocess.run([BOX, "up", short_folder], capture_output=True, text=True, timeout=60)
    assert again.returncode == 1
    assert "already up" in again.stderr
    subprocess.run([BOX, "down", short_folder, "--purge"], check=True, timeout=60)
    assert not short_folder.exists()
    assert box.processes() == 0


def test_an_ordinary_user_can_have_one(short_folder: Path) -> None:
    """Which all other tests show where they are not run by root."""
    tools = shutil.copytree(BOX.parent, short_folder / "tools")
    short_folder.chmod(0o777)
    box = [*AS_USER, tools / "box"]
    subprocess.run([*box, "up", short_folder / "b"], check=True, capture_output=True, timeout=60)
    command = ["srun", "-N2", "bash", "-c", "echo $(hostname) $EUID"]
    try:
        shown = subprocess.run(
            [*box, "run", short_folder / "b", "--", *command], capture_output=True, text=True, timeout=60
        )
    finally:
        subprocess.run([*box, "down", short_folder / "b", "--purge"], check=True, timeout=60)
    user = 65534 if IS_ROOT else os.geteuid()
    assert sorted(shown.stdout.splitlines()) == [f"c1 {user}", f"c2 {user}"], shown.stderr


def test_the_box_dies_with_its_caller(short_folder: Path) -> None:
    program = f"""
import importlib.util, pathlib, signal
spec = importlib.util.spec_from_file_location("box_conftest", {str(Path(__file__).with_name("conftest.py"))!r})
module = importlib.util.module_from_spec(spec)
import sys; sys.modules["box_conftest"] = module
spec.loader.exec_module(module)
process = module.start_box(pathlib.Path({str(short_folder)!r}), "--purge")
print("started", flush=True)
signal.pause()
"""
    caller = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    assert caller.stdout.readline() == "started\n"
    box = SlurmBox(short_folder)
    job = box.sbatch("--output=/dev/null", "--wrap=sleep 600")
    box.wait_until(job, ["RUNNING"])
    assert box.processes() >= 8
    os.kill(caller.pid, signal.SIGKILL)
    caller.communicate(timeout=10)
    deadline = time.monotonic() + 20
    while box.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert box.processes() == 0
    assert not short_folder.exists()


def test_what_is_missing_is_named_with_the_line_that_installs_it(short_folder: Path) -> None:
    tools = short_folder / "bin"
    tools.mkdir()
    for program in ("bash", "dirname", "id", "sort", "sed"):
        (tools / program).symlink_to(f"/usr/bin/{program}")
    text = BOX.read_text(encoding="utf-8").replace("PATH=$PATH:/usr/sbin:/sbin", f"PATH={tools}")
    copy = short_folder / "box"
    copy.write_text(text, encoding="utf-8")
    for part in ("conf.sh", "daemons.sh"):
        (short_folder / part).symlink_to(BOX.with_name(part))
    result = subprocess.run(["/usr/bin/bash", copy, "up", short_folder / "d"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "apt-get install -y --no-install-recommends iproute2 munge slurm-wlm" in result.stderr
