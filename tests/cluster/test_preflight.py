"""The node test in a training job on a real SLURM. A recording program stands in for training; the test is real."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from .conftest import BOX, ROOT, SlurmBox
from .test_scripts import STAND_IN, Checkout

SITE = """
name: two
resources:
  cpu: {time: 5m}
  train: {partition: cpu, nodes: 2, time: 10m}
preflight: true
preflight_floor: 0.4
environment: [export OMP_NUM_THREADS=1]
"""


@pytest.fixture
def checkout(slurm_box: SlurmBox, tmp_path: Path) -> Checkout:
    for name in ("slurm", "configs", "codeio_hpc"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("records", "runs", "runs/mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "two.yaml").write_text(SITE, encoding="utf-8")
    python = tmp_path / "python"
    python.write_text(STAND_IN.replace('== ["site"]', 'in (["site"], ["preflight"])'), encoding="utf-8")
    python.chmod(0o755)
    return Checkout(slurm_box, tmp_path)


def submit(checkout: Checkout, **variables: str) -> str:
    flags = ["-p", "cpu", "-N2", "--ntasks-per-node=1", "--time=9"]
    return checkout.sbatch(*flags, "slurm/stage1.sh", "runs/mine", CODEIO_SITE="two.yaml", **variables)


def test_a_job_that_finds_a_slow_node_starts_again_on_others_and_trains_there(checkout: Checkout) -> None:
    checkout.box.run(["scontrol", "update", "nodename=c4", "state=drain", "reason=test"])
    try:
        job = submit(checkout, CODEIO_PREFLIGHT_FAULT="c2:gemm=0.01")
        record = checkout.box.wait_job(job, timeout=120)[0]
    finally:
        checkout.box.run(["scontrol", "update", "nodename=c4", "state=resume"])
    log = checkout.log(job)
    assert (record["JobState"], record["Restarts"], record["ExcNodeList"]) == ("COMPLETED", "1", "c2"), log
    assert re.search(r"c2: gemm of rank 1: \S+ TFLOP/s, 0\.0\d of the median", log), log
    assert log.index("do without: --exclude=c2") < log.index("== not on c2") < log.index("attempt 1 starts on c1")
    assert "all nodes are as good as the others" in log
    assert not checkout.records(job, attempt=0), "nothing was trained on the slow node"
    assert {rank["host"] for rank in checkout.records(job, attempt=1)} == {"c1", "c3"}
    assert not list(checkout.folder.glob(".preflight*"))


def test_slow_nodes_that_nothing_can_replace_are_trained_on(checkout: Checkout) -> None:
    flags = ["-p", "gpu", "-A", "research", "-N2", "--ntasks-per-node=1", "--time=9"]
    site = (checkout.folder / "two.yaml").read_text(encoding="utf-8")
    (checkout.folder / "two.yaml").write_text(site.replace("cpu, nodes", "gpu, nodes"), encoding="utf-8")
    fault = {"CODEIO_PREFLIGHT_FAULT": "g2:gemm=0.01"}
    job = checkout.sbatch(*flags, "slurm/stage1.sh", "runs/mine", CODEIO_SITE="two.yaml", **fault)
    record = checkout.box.wait_job(job, timeout=120)[0]
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "0"), checkout.log(job)
    assert "== g2: bad, but partition gpu has none to take their place: going on with them" in checkout.log(job)
    assert len(checkout.records(job)) == 2


@pytest.mark.long
def test_a_node_that_no_rank_can_be_started_on_is_done_without(checkout: Checkout) -> None:
    """Its slurmd dies in the seconds before the test begins."""
    site = checkout.folder / "two.yaml"
    text = site.read_text(encoding="utf-8").replace(
        "[export OMP", f"[touch {checkout.folder}/begun; sleep 3, export OMP"
    )
    site.write_text(text, encoding="utf-8")
    job = submit(checkout)
    deadline = time.monotonic() + 30
    while not (checkout.folder / "begun").exists():
        assert time.monotonic() < deadline, checkout.log(job)
        time.sleep(0.1)
    box = [str(BOX), "{}", str(checkout.box.folder), "c2"]
    subprocess.run([word.format("break-node") for word in box], check=True)
    try:
        record = checkout.box.wait_job(job, timeout=120)[0]
    finally:
        subprocess.run([word.format("mend-node") for word in box], check=True)
    log = checkout.log(job)
    assert (record["JobState"], record["Restarts"], record["ExcNodeList"]) == ("COMPLETED", "1", "c2"), log
    assert "failed on node c2" in log and "== not on c2" in log
    hosts = {rank["host"] for rank in checkout.records(job, attempt=1)}
    assert len(hosts) == 2 and "c2" not in hosts


# -- a node that is slow in earnest ------------------------------------------------------------------------------------


@contextmanager
def slowed(node: str) -> Iterator[None]:
    """Processes on a node that have loaded torch get to run in one tenth of the time."""
    ended = Event()

    def slow_down() -> None:
        while not ended.is_set():
            victims = [process for process in map(_number, Path("/proc").iterdir()) if _computes_on(process, node)]
            for _ in range(20):
                _signal(victims, signal.SIGSTOP)
                time.sleep(0.09)
                _signal(victims, signal.SIGCONT)
                time.sleep(0.01)

    thread = Thread(target=slow_down)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _number(entry: Path) -> int:
    return int(entry.name) if entry.name.isdigit() else 0


def _computes_on(process: int, node: str) -> bool:
    try:
        return f"SLURMD_NODENAME={node}\0".encode() in Path(f"/proc/{process}/environ").read_bytes() and (
            "libtorch_cpu" in Path(f"/proc/{process}/maps").read_text(encoding="utf-8")
        )
    except OSError:
        return False


def _signal(processes: list[int], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


@pytest.mark.long
def test_a_node_that_gets_a_tenth_of_the_time_is_found_without_any_rehearsal(checkout: Checkout) -> None:
    with slowed("c2"):
        job = submit(checkout)
        record = checkout.box.wait_job(job, timeout=300)[0]
    assert (record["JobState"], record["Restarts"], record["ExcNodeList"]) == ("COMPLETED", "1", "c2"), checkout.log(
        job
    )
    assert re.search(r"c2: gemm of rank 1: \S+ TFLOP/s, 0\.[0-3]\d of the median", checkout.log(job)), checkout.log(job)


@pytest.mark.long
def test_a_node_whose_rank_never_arrives_is_named_and_done_without(checkout: Checkout) -> None:
    """The whole patience of two minutes is waited for it."""
    job = submit(checkout, CODEIO_PREFLIGHT_FAULT="c2:absent")
    record = checkout.box.wait_job(job, timeout=500)[0]
    assert (record["JobState"], record["Restarts"], record["ExcNodeList"]) == ("COMPLETED", "1", "c2"), checkout.log(
        job
    )
    assert "c2: 1 of its 1 rank did not arrive in 120 s" in checkout.log(job)
