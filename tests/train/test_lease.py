"""One start at a time trains a stage."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.launch import slurm
from codeio_hpc.launch.causes import SILENCE
from codeio_hpc.train.lease import Lease, refuse_held, take
from tests.train.tiny_run import make_run, metrics, start, start_each

HOLD = (
    "import sys; from pathlib import Path; from codeio_hpc.train.lease import take; take(Path(sys.argv[1]), 'stage1')\n"
)


@pytest.fixture(autouse=True)
def outside_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME"):
        monkeypatch.delenv(name, raising=False)


def newest(run: Path) -> Path:
    return max((run / "train/stage1").glob("lease-*.json"))


def change(run: Path, **facts: Any) -> None:
    path = newest(run)
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_who_trains_is_named_and_nothing_is_touched(tmp_path: Path) -> None:
    take(tmp_path, "stage1")
    before = newest(tmp_path).read_bytes()
    with pytest.raises(
        UserError, match=r"stage1 is being trained since \d{4}-.* by process \d+ on .*\n.*\n  fix: let it"
    ):
        take(tmp_path, "stage1")
    with pytest.raises(UserError):
        refuse_held(tmp_path, "stage1")
    assert newest(tmp_path).read_bytes() == before
    take(tmp_path, "stage2")


def test_an_ended_lease_is_free_and_one_file_is_kept(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        lease = take(tmp_path, "stage1")
        assert [path.name for path in (tmp_path / "train/stage1").iterdir()] == [f"lease-{number:04d}.json"]
        lease.end()


def test_a_killed_process_leaves_no_lease_and_its_pid_may_come_again(tmp_path: Path) -> None:
    held = subprocess.Popen([sys.executable, "-c", HOLD + "print(flush=True); input()", str(tmp_path)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert held.stdout is not None
    held.stdout.readline()
    with pytest.raises(UserError, match=f"process {held.pid} on"):
        take(tmp_path, "stage1")
    held.kill()
    held.communicate()
    take(tmp_path, "stage1")
    change(tmp_path, process="1")  # this pid, but of another process
    take(tmp_path, "stage1")


def test_another_host_holds_it_while_it_gives_signs_of_life(tmp_path: Path) -> None:
    take(tmp_path, "stage1")
    change(tmp_path, machine="another", host="node7")
    with pytest.raises(
        UserError, match=r"on node7\n.*\n.*last sign of life at .* works 10 minutes after that, or once"
    ):
        take(tmp_path, "stage1")
    change(tmp_path, saved=time.time() - SILENCE - 1)
    take(tmp_path, "stage1")


def test_a_requeued_job_is_not_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    take(tmp_path, "stage1")
    change(tmp_path, machine="another")
    with pytest.raises(UserError, match="SLURM job 77"):
        take(tmp_path, "stage1")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    take(tmp_path, "stage1")


@pytest.mark.parametrize(("state", "held"), [("RUNNING", True), ("PENDING", False), (None, False)])
def test_of_another_job_slurm_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str | None, held: bool
) -> None:
    queue = [slurm.QueuedJob("77", None, "codeio-stage1", state, "None")] if state else []
    monkeypatch.setattr(slurm, "available", lambda: True)
    monkeypatch.setattr(slurm, "queue", lambda: queue)
    take(tmp_path, "stage1")
    change(tmp_path, machine="another", job="77")
    if not held:
        take(tmp_path, "stage1")
        return
    with pytest.raises(UserError, match="SLURM job 77"):
        take(tmp_path, "stage1")


def test_of_many_starts_at_once_one_gets_it(tmp_path: Path) -> None:
    take(tmp_path, "stage1").end()

    def attempt(_: int) -> Lease | None:
        try:
            return take(tmp_path, "stage1")
        except UserError:
            return None

    with ThreadPoolExecutor(16) as threads:
        got = [lease for lease in threads.map(attempt, range(16)) if lease is not None]
    assert len(got) == 1 and not got[0].is_lost()


def test_who_was_taken_for_dead_notices_and_does_not_end_the_other_s_lease(tmp_path: Path) -> None:
    first = take(tmp_path, "stage1")
    change(tmp_path, machine="another", saved=0.0)
    second = take(tmp_path, "stage1")
    assert first.is_lost() and not second.is_lost()
    first.end()
    with pytest.raises(UserError):
        take(tmp_path, "stage1")


def test_of_two_trainings_at_once_one_trains_and_the_other_says_so(tmp_path: Path) -> None:
    """The ranks of the second are told by its rank 0, as on a cluster."""
    run = make_run(tmp_path, 12)
    first, second = start(run, ranks=1), start_each(run, 2)
    codes = [process.wait(timeout=150) for process in (first, *second)]
    output = (tmp_path / "output.txt").read_text()
    assert sorted(codes) in ([0, 64, 64], [0, 0, 64]), output
    assert output.count("stage1 is being trained since") == 1 and "Traceback" not in output
    assert [line["step"] for line in metrics(run)] == list(range(1, 13))
    assert len(list((run / "attempts").iterdir())) == 1
