"""Arrays on sites of different kinds: small, cancelling what they preempt, with accounting, with containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from codeio_hpc.launch.attempts import Attempt, read_attempts
from codeio_hpc.launch.rounds import RoundRecord, read_rounds
from codeio_hpc.launch.run import open_run
from tests.conftest import dataset_bytes
from tests.containers.image import Image

from .conftest import ROOT, SlurmBox, a_box

CODEIO = [sys.executable, "-m", "codeio_hpc"]


def make_config(folder: Path, files: int, steps: int = 0, **launch: Any) -> Path:
    """A build of so many small files, a shard each, whose functions make so many steps; no step needs all shards."""
    sources = folder / "sources"
    sources.mkdir(parents=True)
    for number in range(files):
        code = f"def add_{number}(left: int, right: int) -> int:\n"
        code += f"    for step in range({steps}):\n        left = left * 7 % 100_003 + step\n" if steps else ""
        code += f"    return left * {number + 2} + right\n"
        (sources / f"f{number:03d}.py").write_text(code, encoding="utf-8")
    config = {
        "name": "small",
        "seed": 5,
        "sources": [{"name": "here", "path": str(sources), "licence": "Apache-2.0"}],
        "collect": {"files_per_shard": 1, "near_duplicates": None, "min_bytes": 1},
        "split": {"near_duplicates": None},
        "sample": {"pairs": 4},
        "teacher": {"kind": "tracer"},
        "launch": launch,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder / "config.yaml"


def make_site(folder: Path, **facts: Any) -> Path:
    cpu = {
        "partition": "scavenge",
        "cpus_per_rank": 8,
        "memory": {"style": "mem-per-cpu", "value": "400M"},
        "time": "30m",
    }
    cpu |= facts.pop("cpu", {})
    site = {"name": "here", "resources": {"cpu": cpu}, "max_tasks_at_once": 8, **facts}
    (folder / "site.yaml").write_text(yaml.safe_dump(site), encoding="utf-8")
    return folder / "site.yaml"


def build_locally(config: Path, run: Path) -> dict[str, str]:
    command = [*CODEIO, "build", config, "--run", run, "launch.workers=2"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return dataset_bytes(run)


def wait_for(condition: Callable[[], Any], timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.3)


def rounds(run: Path) -> list[RoundRecord]:
    return read_rounds(open_run(run))


@pytest.mark.parametrize(("most", "tasks"), [(4, 14), pytest.param(11, 60, marks=pytest.mark.long)])
def test_more_tasks_than_an_array_holds_and_preempted_ones_that_slurm_cancels(
    tmp_path: Path, most: int, tasks: int
) -> None:
    config = make_config(tmp_path, tasks, tasks=tasks)
    slow = "def slow(number: int) -> int:\n    for step in range(3_000_000):\n        number = number * 7 % 1_009\n"
    (tmp_path / "sources" / "f000.py").write_text(f"{slow}    return number\n", encoding="utf-8")
    site = make_site(
        tmp_path, max_array_size=most, requeue="none", cpu={"preemption": {"mode": "cancel", "warned": True}}
    )
    run = tmp_path / "run"
    with a_box("--max-array", str(most), "--preempt", "cancel") as box:
        command = [*CODEIO, "build", config, "--run", run, "--site", site]
        submitted = json.loads(box.run([*command, "--json"], timeout=120).stdout)["submitted"]
        assert (len(submitted["arrays"]), submitted["tasks"]) == (-(-tasks // most), tasks)
        wait_for(lambda: victims(run), timeout=300)
        [victim] = victims(run)
        box.sbatch("-p", "cpu", "--exclusive", f"--nodelist={victim.host}", "-o", "/dev/null", "--wrap=sleep 1")
        box.run([*command, "--wait"], timeout=300)
        wait_for(lambda: not box.squeue())
    sent = rounds(run)
    assert [array.tasks for array in sent[0].arrays][:-1] == [most] * (tasks // most)
    assert (sent[-2].step, sent[-2].missing) == (sent[-1].step, tasks), "what SLURM cancelled, the next round did"
    assert sent[-1].missing == 1
    endings = sent[-2].endings
    assert endings is not None and [ending[0] for ending in endings.values()] == ["preempted"]
    assert dataset_bytes(run) == build_locally(config, tmp_path / "local")


def victims(run: Path) -> list[Attempt]:
    """The attempt at the shard that takes longest, in its longest step, once it is at work."""
    found = [attempt for attempt in read_attempts(run) if attempt.step == 3 and attempt.cause is None]
    slow = {(record.work, number) for record in rounds(run) for number, task in enumerate(record.tasks) if 0 in task}
    return [attempt for attempt in found if (attempt.work, attempt.task) in slow and "split" in attempt.stages]


def test_a_run_folder_may_have_any_name(slurm_box: SlurmBox, tmp_path: Path) -> None:
    config = make_config(tmp_path, 6, tasks=2)
    run = tmp_path / 'it\'s "mine"; $HOME `x` ü on\ntwo lines' / "run"
    slurm_box.run([*CODEIO, "build", config, "--run", run, "--site", make_site(tmp_path), "--wait"], timeout=120)
    wait_for(lambda: not slurm_box.squeue())
    assert dataset_bytes(run) == build_locally(config, tmp_path / "local")
    logs = {path.name for round in rounds(run) for path in (run / "logs" / round.work).glob("*_log.out")}
    assert logs == {f"{round.steer}_0_log.out" for round in rounds(run)}, "the others were found under their names"
    assert not list((run / "attempts").iterdir()) and len(list(read_attempts(run))) == 2 * len(rounds(run))


def test_a_folder_that_slurm_would_misread_is_refused(slurm_box: SlurmBox, tmp_path: Path) -> None:
    config = make_config(tmp_path, 2)
    command = [*CODEIO, "build", config, "--run", tmp_path / "100%j", "--site", make_site(tmp_path)]
    refused = slurm_box.run(command, check=False)
    assert refused.returncode == 2
    assert "why: SLURM reads '%' in the path of a log as a pattern" in refused.stderr


def test_where_the_steering_job_is_gone_resume_submits_it_again_and_nothing_else(
    slurm_box: SlurmBox, tmp_path: Path
) -> None:
    config, site, run = make_config(tmp_path, 12, tasks=4), make_site(tmp_path), tmp_path / "run"
    slurm_box.run(["scontrol", "update", "partitionname=scavenge", "state=down"])  # nothing starts meanwhile
    slurm_box.run([*CODEIO, "build", config, "--run", run, "--site", site])
    steer = rounds(run)[0].steer
    assert steer is not None
    slurm_box.run(["scancel", steer])
    status = json.loads(slurm_box.run([*CODEIO, "resume", run, "--site", site, "--json"]).stdout)
    assert status["at_work"] == [array.job for array in rounds(run)[0].arrays] and status["submitted"] is None
    assert rounds(run)[0].steer not in (None, steer)
    slurm_box.run(["scontrol", "update", "partitionname=scavenge", "state=up"])
    slurm_box.run([*CODEIO, "resume", run, "--site", site, "--wait"], timeout=120)
    wait_for(lambda: not slurm_box.squeue())
    assert len({(a.work, a.task) for a in read_attempts(run)}) == len(list(read_attempts(run))), "no task ran twice"


def test_cancel_and_going_on(slurm_box: SlurmBox, tmp_path: Path) -> None:
    config, site, run = make_config(tmp_path, 40, steps=300_000, tasks=4), make_site(tmp_path), tmp_path / "run"
    slurm_box.run([*CODEIO, "build", config, "--run", run, "--site", site])
    wait_for(lambda: any("split" in attempt.stages for attempt in read_attempts(run)))
    refused = slurm_box.run([*CODEIO, "resume", run], check=False)
    assert refused.returncode == 2 and "of this run are at work" in refused.stderr
    done = json.loads(slurm_box.run([*CODEIO, "cancel", run, "--json"]).stdout)
    assert len(done["cancelled"]) == 2
    wait_for(lambda: not slurm_box.squeue())
    status = json.loads(slurm_box.run([*CODEIO, "status", run, "--json"]).stdout)
    assert status["state"] == "incomplete" and set(status["attempts"]) <= {"cancelled", "done"}
    log = slurm_box.run([*CODEIO, "logs", run]).stdout
    assert log.splitlines()[0].startswith("step") and ": cancelled" in log.splitlines()[0]
    slurm_box.run([*CODEIO, "resume", run], timeout=120)  # here, without SLURM
    assert dataset_bytes(run) == build_locally(config, tmp_path / "local")
    used = json.loads(slurm_box.run([*CODEIO, "usage", run, "--json"]).stdout)
    assert used["cpu_hours"] > 0 and {stage["stage"] for stage in used["stages"]} >= {"collect", "sample"}


def test_what_waits_is_seen_and_cancelling_what_is_stuck_leaves_the_rest_of_its_array(
    slurm_box: SlurmBox, tmp_path: Path
) -> None:
    config, site, run = make_config(tmp_path, 8, tasks=4), make_site(tmp_path), tmp_path / "run"
    rival = slurm_box.sbatch("-p", "cpu", "-N4", "--exclusive", "-o", "/dev/null", "--wrap=sleep 60")
    slurm_box.run([*CODEIO, "build", config, "--run", run, "--site", site])
    again = slurm_box.run([*CODEIO, "resume", run, "--site", site], env={"SQUEUE_STATES": "RUNNING"})
    assert len(rounds(run)) == 1, f"what waits was not seen: {again.stdout}"
    array, steer = rounds(run)[0].jobs
    slurm_box.run(["scontrol", "hold", f"{array}_1"])
    done = json.loads(slurm_box.run([*CODEIO, "cancel", run, "--stuck", "--json"]).stdout)
    assert done["cancelled"] == [f"{array}_[1]"]
    left = [f"{array}_0", f"{array}_2", f"{array}_3", rival, steer]
    wait_for(lambda: sorted(slurm_box.squeue("-r", "-o", "%i")) == sorted(left))
    slurm_box.run(["scancel", *left])
    wait_for(lambda: not slurm_box.squeue())


LOST_ANSWER = """#!/bin/bash
/usr/bin/sbatch "$@" >{seen}/$$ || exit
(($(ls {seen} | wc -l) > 1)) && exec cat {seen}/$$
sleep 10 # MessageTimeout
echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
exit 1
"""


def test_what_may_have_been_submitted_is_not_submitted_twice(slurm_box: SlurmBox, tmp_path: Path) -> None:
    """The controller takes the job, and the answer is lost on its way."""
    config, site, run = make_config(tmp_path, 8, tasks=2), make_site(tmp_path), tmp_path / "run"
    seen = tmp_path / "seen"
    seen.mkdir()
    (tmp_path / "sbatch").write_text(LOST_ANSWER.format(seen=seen), encoding="utf-8")
    (tmp_path / "sbatch").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = slurm_box.run([*CODEIO, "build", config, "--run", run, "--site", site], env=path, timeout=120)
    assert "SLURM takes nothing now (sbatch: Batch job submission failed: Socket timed out" in result.stderr
    assert len(list(seen.iterdir())) == 2, "the array was submitted once, and then the job that steers on"
    slurm_box.run([*CODEIO, "build", config, "--run", run, "--site", site, "--wait"], timeout=120)
    wait_for(lambda: not slurm_box.squeue())
    assert {record.round for record in rounds(run)} == {0}, "tasks that started meanwhile have waited for their files"
    assert dataset_bytes(run) == build_locally(config, tmp_path / "local")


@pytest.mark.long
def test_a_user_who_may_have_few_jobs_in_the_queue_gets_a_part_at_a_time(tmp_path: Path) -> None:
    """With accounting, and so with limits of associations."""
    config, site, run = (
        make_config(tmp_path, 24, tasks=24),
        make_site(tmp_path, cpu={"account": "research"}),
        tmp_path / "run",
    )
    with a_box("--accounting") as box:
        box.run(["sacctmgr", "-i", "modify", "user", os.environ.get("USER", "root"), "set", "MaxSubmitJobs=14"])
        result = box.run([*CODEIO, "build", config, "--run", run, "--site", site, "--wait"], timeout=400)
        assert result.returncode == 0
        wait_for(lambda: not box.squeue())
        ended = box.run(["sacct", "-n", "-X", "-o", "State"]).stdout.split()
        assert set(ended) == {"COMPLETED"}
    assert [array.tasks for array in rounds(run)[0].arrays] == [12]
    assert dataset_bytes(run) == build_locally(config, tmp_path / "local")


@pytest.mark.long
def test_an_array_build_runs_in_a_container(slurm_box: SlurmBox, tmp_path: Path, exec_image: Image) -> None:
    """With every step that a build has by itself; and of the Python here, not of the one in the container."""
    config = make_config(tmp_path, 12, tasks=4)
    data = yaml.safe_load(config.read_text(encoding="utf-8"))
    del data["collect"]["near_duplicates"], data["split"]
    data["recipe"] = str(ROOT / "configs" / "models" / "tiny.yaml")
    data["sources"].append({"name": "std", "stdlib": True, "include": ["bisect.py", "heapq.py"]})
    data["sources"].append({"name": "tool", "distribution": "pytest", "include": ["pytest/*.py"]})
    config.write_text(yaml.safe_dump(data), encoding="utf-8")
    path = f'export PATH="{exec_image.apptainer.parent}:$PATH"'
    site = make_site(
        tmp_path, container={"runtime": "apptainer"}, cpu={"image": str(exec_image.sif)}, environment=[path]
    )
    run = tmp_path / "run"
    slurm_box.run([*CODEIO, "build", config, "--run", run, "--site", site, "--wait"], timeout=400)
    wait_for(lambda: not slurm_box.squeue())
    assert {attempt.isolation for attempt in read_attempts(run) if attempt.isolation} == {"nsjail"}
    assert dataset_bytes(run) == build_locally(config, tmp_path / "local")
