"""A build that stopped, and is asked for again; jobs that steer, and meet each other or a scheduler that is silent.

SLURM's commands are stood in for: two jobs can't be made to meet in the one second that matters, and
tests/cluster has the real ones.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from codeio_hpc.config import parse
from codeio_hpc.config.site import Site
from codeio_hpc.errors import UserError
from codeio_hpc.launch import commands, submission
from codeio_hpc.launch.attempts import Failure, start_attempt
from codeio_hpc.launch.build import BuildFailedError
from codeio_hpc.launch.commands import read_config
from codeio_hpc.launch.jobs import job_prefix
from codeio_hpc.launch.plan import places
from codeio_hpc.launch.rounds import read_rounds
from codeio_hpc.launch.run import Run, create_or_open_run, open_run
from codeio_hpc.launch.submission import SteerCall
from tests.conftest import dataset_bytes

SITE = parse(Site, {"name": "s", "resources": {"cpu": {"time": "1h"}}}, "s.yaml")
SBATCH = """#!/bin/bash
cd "$(dirname "$0")" && script=$OLDPWD/${@: -1}
number=$(($(cat number) + 1))
echo "$number" > number
echo "$number" >> submitted
cp "$script" "script-$number.sh"
echo "$number"
"""
SQUEUE = """#!/bin/bash
cd "$(dirname "$0")"
if [[ -e silent ]]; then
    rm silent
    echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
    exit 1
fi
cat queue
"""


@dataclass
class Scheduler:
    """What stands in for sbatch and squeue."""

    folder: Path

    @property
    def submitted(self) -> list[str]:
        """Numbers of the jobs that it took."""
        path = self.folder / "submitted"
        return path.read_text().split() if path.exists() else []

    def script(self, job: str) -> str:
        """The batch script of a job."""
        return (self.folder / f"script-{job}.sh").read_text()

    def holds(self, *jobs: tuple[str, str, str]) -> None:
        """What squeue says from now on: (id, state, name)."""
        lines = [f"{job}|N/A|{state}|None|{name}\n" for job, state, name in jobs]
        (self.folder / "queue").write_text("".join(lines))


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    folder = tmp_path / "scheduler"
    folder.mkdir()
    (folder / "number").write_text("100")
    (folder / "queue").touch()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return Scheduler(folder)


@pytest.fixture
def run(small_config: Path, tmp_path: Path) -> Run:
    return create_or_open_run(tmp_path / "run", read_config(small_config, []))


def fail(run: Run, work: str, task: int, shard: int, error: str) -> None:
    attempt = start_attempt(run.folder, work, task, 0)
    attempt.failures.append(Failure("collect", shard, error))
    attempt.finish(run.folder, "error")


def steer(run: Run, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", job)
    SteerCall(run.folder, SITE)()


def name(run: Run, what: str) -> str:
    return f"{job_prefix(run)}-{what}"


# -- asked for again


def test_a_shard_that_failed_as_often_as_it_may_is_tried_anew_when_a_person_asks(
    run: Run, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.resume(run.folder, SITE, wait=False, quiet=True)
    for again in range(2):
        rounds = read_rounds(run)
        for number in range(run.config.launch.attempts):
            fail(run, rounds[-1].work, number, 0, f"OSError: no space left ({number})")
        with pytest.raises(SystemExit):
            steer(run, "900", monkeypatch)
        assert "no space left (2)" in str(read_rounds(run)[-1].failed), "a job that steers gives up"
        monkeypatch.delenv("SLURM_JOB_ID")
        done = commands.resume(run.folder, SITE, wait=False, quiet=True)
        assert done["submitted"] is not None and len(read_rounds(run)) == again + 2


def test_rounds_without_progress_end_a_build_until_a_person_asks(
    run: Run, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.resume(run.folder, SITE, wait=False, quiet=True)
    for _ in range(run.config.launch.attempts):
        steer(run, "900", monkeypatch)
    with pytest.raises(SystemExit):
        steer(run, "900", monkeypatch)
    rounds = len(read_rounds(run))
    assert rounds == run.config.launch.attempts + 1 and "still missing after" in str(read_rounds(run)[-1].failed)
    monkeypatch.delenv("SLURM_JOB_ID")
    commands.resume(run.folder, SITE, wait=False, quiet=True)
    assert len(read_rounds(run)) == rounds + 1


def test_locally_too(small_config: Path, tmp_path: Path) -> None:
    """A folder stands where a stage wants to write a file, for a while."""
    run = create_or_open_run(tmp_path / "run", read_config(small_config, ["launch.workers=1"]))
    [transform] = [place for place in places(run) if place.stage.name == "transform"]
    in_the_way = transform.folder / "rejected-00001.parquet"
    in_the_way.mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(BuildFailedError, match="shard 1 failed 3 times"):
            commands.resume(run.folder, None, wait=False, quiet=True)
    in_the_way.rmdir()
    assert commands.resume(run.folder, None, wait=False, quiet=True)["state"] == "complete"


def test_launch_settings_of_a_later_command_hold_from_then_on(
    small_config: Path, tmp_path: Path, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    commands.build(small_config, [], [], folder, SITE, wait=False, quiet=True)
    later = ["launch.task_time=31m", "launch.tasks=2"]
    commands.build(small_config, later, [], folder, SITE, wait=False, quiet=True)
    run = open_run(folder)
    steer(run, "900", monkeypatch)
    array = read_rounds(run)[-1].arrays[0].job
    assert len(read_rounds(run)[-1].tasks) == 2
    assert "--time=31" in scheduler.script(array), "of the round that a steering job sent out"
    commands.build(small_config, [], [], folder, SITE, wait=False, quiet=True)
    assert open_run(folder).config.launch == read_config(small_config, []).launch


def test_another_version_of_the_code_adds_nothing(
    run: Run, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.resume(run.folder, SITE, wait=False, quiet=True)
    manifest = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**manifest, "code_version": "0.0.9"}))
    for site in (SITE, None):
        with pytest.raises(UserError, match=r"begun by version 0\.0\.9"):
            commands.resume(run.folder, site, wait=False, quiet=True)
    with pytest.raises(SystemExit):
        steer(run, "900", monkeypatch)
    assert len(scheduler.submitted) == 2 and "begun by version" in str(read_rounds(run)[-1].failed)


# -- what is damaged


def test_a_damaged_sketch_is_made_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the index knows the file by its name and number, and has no reason to look into it."""
    monkeypatch.setattr("codeio_hpc.tables.index._WORTH_SAVING", 1)
    commands.resume(run.folder, None, wait=False, quiet=True)
    undisturbed = dataset_bytes(run.folder)
    gather = next(place for place in places(run) if place.sketch_path(0).exists())
    source = sorted(gather.input_folder.glob("part-*.parquet"))[1]
    for path in (gather.sketch_path(0), gather.folder / "decision.json"):
        path.write_bytes(b"")
    if gather.input_folder.name != "00-sources":
        source.write_bytes(b"")
    commands.resume(run.folder, None, wait=False, quiet=True)
    assert dataset_bytes(run.folder) == undisturbed


def test_a_damaged_record_of_a_round_is_one_clear_error(run: Run, scheduler: Scheduler) -> None:
    commands.resume(run.folder, SITE, wait=False, quiet=True)
    (run.folder / "logs" / read_rounds(run)[0].work / "round.json").write_bytes(b'{"step": 0')
    with pytest.raises(UserError, match="cannot be understood"):
        next(commands.statuses(run.folder, None))
    with pytest.raises(UserError, match="cannot be understood"):
        commands.resume(run.folder, SITE, wait=False, quiet=True)


# -- steering jobs


def test_of_two_that_wait_for_the_same_arrays_one_goes_on(
    run: Run, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    [array] = commands.resume(run.folder, SITE, wait=False, quiet=True)["submitted"]["arrays"]
    scheduler.holds((array, "PENDING", name(run, "collect-sketch-r0-0")))
    commands.resume(run.folder, SITE, wait=False, quiet=True)  # its steering job is not in the queue yet
    _, first, second = scheduler.submitted
    both = [(job, "RUNNING", name(run, "steer-0-r0")) for job in (first, second)]
    scheduler.holds(*both)
    steer(run, second, monkeypatch)
    assert len(scheduler.submitted) == 3, "the later one leaves it to the earlier one"
    steer(run, first, monkeypatch)
    assert len(scheduler.submitted) == 5


def test_one_waits_for_arrays_that_are_not_on_record_too(
    run: Run, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever submits is killed between SLURM's answer and the record."""
    [array] = commands.resume(run.folder, SITE, wait=False, quiet=True)["submitted"]["arrays"]
    scheduler.holds(("777", "RUNNING", name(run, "collect-sketch-r0-4")))
    steer(run, scheduler.submitted[-1], monkeypatch)
    assert f"afterany:{array}:777" in scheduler.script(scheduler.submitted[-1])


def test_one_waits_for_a_controller_that_restarts(
    run: Run, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "_PAUSE", 0.1)
    commands.resume(run.folder, SITE, wait=False, quiet=True)
    (scheduler.folder / "silent").touch()
    steer(run, "900", monkeypatch)
    assert read_rounds(run)[-2].failed is None and len(scheduler.submitted) == 4


def test_a_wrong_setting_that_a_task_finds_is_not_sent_out_again(
    run: Run, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.resume(run.folder, SITE, wait=False, quiet=True)
    fail(run, read_rounds(run)[-1].work, 0, -1, str(UserError("no sandbox here", "code would run free", "ask for one")))
    with pytest.raises(SystemExit):
        steer(run, "900", monkeypatch)
    assert "no sandbox here" in str(read_rounds(run)[-1].failed) and len(scheduler.submitted) == 2
