"""What is handed to SLURM: a script for each array, and one for the job that steers on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from codeio_hpc import __version__
from codeio_hpc.config import RunConfig, parse
from codeio_hpc.config.run import settings_hash
from codeio_hpc.config.site import Site
from codeio_hpc.launch import submission
from codeio_hpc.launch.jobs import batch_library, scripts_of
from codeio_hpc.launch.rounds import RoundRecord, read_rounds
from codeio_hpc.launch.run import Run

GOLDEN = Path(__file__).parent / "golden"
RECORD = {"step": 2, "round": 1, "name": "sample-to-verify", "site": "s", "missing": 9, "expected_seconds": 60.0}


def site(**more: object) -> Site:
    cpu = {"time": "2h", "partition": "low", "cpus_per_rank": 4, "memory": {"style": "mem-per-cpu", "value": "4G"}}
    data = {"name": "s", "resources": {"cpu": {**cpu, **more.pop("cpu", {})}}, "max_tasks_at_once": 3, **more}  # type: ignore[dict-item]
    return parse(Site, data, "s.yaml")


def run(folder: Path) -> Run:
    config = parse(RunConfig, {"name": "mine", "sources": [{"name": "std", "stdlib": True}]}, "c.yaml")
    return Run(folder, config, 9)


def scripts(folder: Path, where: Site, tasks: int = 5) -> list[dict[str, str]]:
    record = RoundRecord(**RECORD, tasks=[[number] for number in range(tasks)], exclude=["n7", "n9"])  # type: ignore[arg-type]
    return scripts_of(run(folder), where, record)


def neutral(text: str) -> str:
    """Without what differs from installation to installation, and from version to version."""
    what = f"{__version__} {settings_hash(run(Path('/')).config.identity())[:12]}"
    return (
        text.replace(what, "CODE CONFIGURATION")
        .replace(sys.executable, "PYTHON")
        .replace(str(batch_library()), "LIBRARY")
    )


@pytest.mark.parametrize("name", ["array", "steer"])
def test_the_scripts_are_the_golden_ones(name: str) -> None:
    array, steer = scripts(Path("/runs/mine"), site())
    text = neutral({"array": array, "steer": steer}[name]["script"])
    assert text == (GOLDEN / f"{name}.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("runtime", ["none", "apptainer", "pyxis"])
def test_the_scripts_pass_shellcheck(tmp_path: Path, runtime: str) -> None:
    where = site()
    if runtime != "none":
        where = site(container={"runtime": runtime, "binds": ["/data:/data:ro"]}, cpu={"image": "/images/my exec.sif"})
    for number, job in enumerate(scripts(Path('/runs/it\'s "mine" ü\nline'), where)):
        path = tmp_path / f"{number}.sh"
        path.write_text(job["script"], encoding="utf-8")
        command = ["shellcheck", "--external-sources", "--exclude=SC1091", path]
        checked = subprocess.run(command, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout


def test_tasks_of_a_container_see_the_run_and_what_the_site_binds() -> None:
    where = site(container={"runtime": "apptainer", "binds": ["/data:/data:ro"]}, cpu={"image": "/images/exec.sif"})
    array, steer = scripts(Path("/runs/mine"), where)
    command = next(line for line in array["script"].splitlines() if line.startswith("run_forwarding"))
    names = "CODEIO_SCRATCH,TRITON_CACHE_DIR,TORCHINDUCTOR_CACHE_DIR,TORCH_EXTENSIONS_DIR,HF_HUB_OFFLINE"
    assert command == (
        f"run_forwarding in_container {names},TRANSFORMERS_OFFLINE,HF_DATASETS_OFFLINE"
        " exec --cleanenv --no-home --containall --bind=/data:/data:ro --bind=/runs/mine"
        ' --pwd="$PWD" /images/exec.sif python3 -u -m submitit.core._submit .'
    )
    assert "in_container" not in steer["script"], "it submits jobs, and there is no sbatch in a container"


def test_a_task_under_pyxis_starts_where_its_pickle_lies() -> None:
    """Else it starts in the image's own folder."""
    where = site(container={"runtime": "pyxis"}, cpu={"image": "/images/my exec.sqsh"})
    array, _ = scripts(Path("/runs/mine"), where)
    command = next(line for line in array["script"].splitlines() if line.startswith("run_forwarding"))
    assert command == (
        "run_forwarding srun --ntasks=1 '--container-image=/images/my exec.sqsh'"
        " --container-mounts=/runs/mine:/runs/mine"
        ' --no-container-mount-home --container-workdir="$PWD" python3 -u -m submitit.core._submit .'
    )


def test_what_the_site_s_lines_export_reaches_a_container_but_no_search_path(tmp_path: Path) -> None:
    lines = [
        f'export PATH="{tmp_path}:$PATH" HF_HOME="/big disk/hf"; export A_TOKEN',
        "true && export OMP_NUM_THREADS=1",
        "export LD_LIBRARY_PATH=/of/the/host",
    ]
    where = site(container={"runtime": "apptainer"}, cpu={"image": "/images/exec.sif"}, environment=lines)
    script = scripts(Path("/runs/mine"), where)[0]["script"].replace("$(($(date +%s) + 7200))", "1")
    (tmp_path / "apptainer").write_text('#!/bin/sh\nenv -0 >"$0.env"\n')
    (tmp_path / "apptainer").chmod(0o755)
    env = {"PATH": "/usr/bin:/bin", "A_TOKEN": "t", "SLURM_JOB_ID": "7"}
    subprocess.run(["bash", "-c", script], env=env, check=True, capture_output=True)
    seen = dict(each.split("=", 1) for each in (tmp_path / "apptainer.env").read_text().split("\0") if each)
    inside = {name.removeprefix("APPTAINERENV_"): seen[name] for name in seen if name.startswith("APPTAINERENV_")}
    assert (inside["HF_HOME"], inside["A_TOKEN"], inside["OMP_NUM_THREADS"]) == ("/big disk/hf", "t", "1")
    assert (inside["HF_HUB_OFFLINE"], inside["SLURM_JOB_ID"]) == ("1", "7")
    assert not {"PATH", "LD_LIBRARY_PATH"} & set(inside)


def test_more_tasks_than_the_site_s_arrays_hold_are_split_and_all_are_waited_for() -> None:
    jobs = scripts(Path("/runs/mine"), site(max_array_size=2), tasks=5)
    arrays = [line for job in jobs for line in job["script"].splitlines() if line.startswith("#SBATCH --array")]
    assert arrays == ["#SBATCH --array=0-1%1", "#SBATCH --array=0-1%1"]
    waits = [line for job in jobs for line in job["script"].splitlines() if "--dependency" in line]
    assert waits == ["#SBATCH --dependency='afterany:<array 0>:<array 1>:<array 2>'"]
    names = {line for job in jobs for line in job["script"].splitlines() if "--job-name" in line}
    assert len(names) == 4, "each can be found by its name"


def test_no_job_asks_for_more_time_than_the_site_gives() -> None:
    limits, deadlines = [], []
    for job in scripts(Path("/runs/mine"), site(cpu={"time": "20m"})):
        limits += [line for line in job["script"].splitlines() if "--time" in line]
        deadlines += [line for line in job["script"].splitlines() if "CODEIO_DEADLINE=$" in line]
    assert limits == ["#SBATCH --time=20", "#SBATCH --time=20"]
    assert all("+ 1200))" in line for line in deadlines), "the worker knows"


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_sbatch_is_called_no_more_often_than_the_site_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven submissions of one round at most five a minute, though every command of it is a process of its own."""
    clock, calls = Clock(), list[float]()

    def submit(*arguments: object) -> str:
        calls.append(clock.now)
        return str(len(calls))

    monkeypatch.setattr(submission, "time", clock)
    monkeypatch.setattr(submission, "submit", submit)
    mine, where = run(tmp_path), site(max_array_size=1, max_submissions_per_minute=5)
    record = RoundRecord(**RECORD, tasks=[[number] for number in range(6)])  # type: ignore[arg-type]
    submission._submit_arrays(mine, where, record)
    submission._submit_steer(mine, where, read_rounds(mine)[0])
    assert calls == [1000.0] * 5 + [1060.0] * 2
    following = RoundRecord(**{**RECORD, "round": 2}, tasks=[[0]])  # type: ignore[arg-type]
    for _ in range(4):
        submission._submit_steer(mine, where, following)
    assert calls[7:] == [1060.0] * 3 + [1120.0]


def test_a_busy_scheduler_is_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pauses: list[float] = []
    answers = [submission.slurm.SubmitLimitError("AssocMaxSubmitJobLimit"), submission.slurm.SchedulerBusyError("no")]
    monkeypatch.setattr(submission.time, "sleep", pauses.append)

    def submit() -> None:
        if answers:
            raise answers.pop(0)

    submission.patiently(submit)
    assert pauses == [20.0, 40.0]
    assert "SLURM takes nothing now (AssocMaxSubmitJobLimit); again in 20 s" in capsys.readouterr().err
