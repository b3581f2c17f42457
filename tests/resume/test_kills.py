"""Whatever kills a build, and however many workers it has: the finished dataset is the same, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codeio_hpc.launch.plan import places
from codeio_hpc.launch.run import open_run
from tests.conftest import dataset_bytes


def start(config: Path, run: Path, workers: int) -> subprocess.Popen[bytes]:
    """`codeio build`, in a process group of its own."""
    command = [sys.executable, "-m", "codeio_hpc", "build", str(config), f"launch.workers={workers}", "--run", str(run)]
    return subprocess.Popen(
        command,
        start_new_session=True,
        cwd=config.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_heed_ctrl_c,
    )


def _heed_ctrl_c() -> None:
    """A shell starts its background jobs with SIGINT ignored, and so would be everything these tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_a_shard(run: Path, stage: str) -> None:
    deadline = time.monotonic() + 60
    while not list(run.glob(f"stages/{stage}/part-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def build(config: Path, run: Path, workers: int) -> dict[str, str]:
    assert start(config, run, workers).wait(timeout=300) == 0
    return dataset_bytes(run)


@pytest.fixture
def undisturbed(small_config: Path, tmp_path: Path) -> dict[str, str]:
    return build(small_config, tmp_path / "undisturbed", workers=0)


@pytest.mark.parametrize("wanted", [5, pytest.param(25, marks=pytest.mark.long)])
def test_kill_9_at_random_moments_and_any_number_of_workers(
    small_config: Path, tmp_path: Path, undisturbed: dict[str, str], wanted: int
) -> None:
    """Kills of a build at work; a run that ended first is compared, and a new one begun."""
    moments = random.Random(time.time_ns())
    run, kills = tmp_path / "killed-0", 0
    while kills < wanted:
        process = start(small_config, run, workers=(1, 2, 4)[kills % 3])
        try:
            assert process.wait(timeout=moments.uniform(0.2, 3.0)) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert dataset_bytes(run) == undisturbed
            run = tmp_path / f"killed-{kills}"
    assert build(small_config, run, workers=2) == undisturbed


def test_a_killed_launcher_takes_its_workers_along(small_config: Path, tmp_path: Path) -> None:
    """Only the launcher is killed, not its group: no worker may go on writing."""
    run = tmp_path / "run"
    process = start(small_config, run, workers=2)
    wait_for_a_shard(run, "02-transform")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2)
    before = dataset_bytes(run)
    time.sleep(1.5)
    assert dataset_bytes(run) == before


def test_damaged_shards_are_made_again(small_config: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    run = tmp_path / "undisturbed"
    parts = [place.folder / "part-00006.parquet" for place in places(open_run(run))]
    for number, part in enumerate(parts):
        data = bytearray(part.read_bytes())
        if number % 3 == 0:
            part.write_bytes(data[: len(data) // 2])
        elif number % 3 == 1:
            data[len(data) // 3] ^= 0xFF
            part.write_bytes(data)
        else:
            part.unlink()
    assert build(small_config, run, workers=2) == undisturbed


def test_ctrl_c_says_how_to_go_on_and_leaves_a_state_that_goes_on(
    small_config: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    run = tmp_path / "stopped"
    process = start(small_config, run, workers=2)
    wait_for_a_shard(run, "04-sample")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert build(small_config, run, workers=1) == undisturbed
