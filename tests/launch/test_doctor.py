"""The check-up: each check on facts as they are met, and the table that people and programs get."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc import cli
from codeio_hpc.config.recipe import StageRecipe
from codeio_hpc.config.site import Preemption
from codeio_hpc.launch.doctor import (
    examine,
    finding,
    planner,
    scheduler,
    storage,
)
from codeio_hpc.launch.doctor.containers import container_findings
from codeio_hpc.launch.doctor.environment import cache_findings, environment_findings
from codeio_hpc.launch.doctor.finding import Finding
from codeio_hpc.launch.slurm import Association

from .recorded_cluster import cluster, site, with_partition

ROOT = Path(__file__).parents[2]


def scheduled(site_: Any = None, associations: Any = "not readable", **settings: str) -> dict[str, Finding]:
    live = cluster(**settings)
    return {each.name: each for each in scheduler.scheduler_findings(live, site_, associations)}


# -- the table ---------------------------------------------------------------------------------------------------------

SOME = [
    Finding("a", "1", "pass", "", "login"),
    Finding("longer", "2", "fail", "do this", "c1 (cpu)"),
]


def test_the_table_is_aligned_and_a_fix_stands_below_its_line() -> None:
    assert finding.as_text(SOME).splitlines() == [
        "pass     login     a       1",
        "fail     c1 (cpu)  longer  2",
        "                           -> do this",
        "1 pass, 0 warn, 1 fail, 0 skipped",
    ]
    assert finding.any_failed(SOME) and not finding.any_failed(SOME[:1])


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in finding.as_text(SOME)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert "\x1b[31;1mfail" in finding.as_text(SOME)


def test_data_goes_there_and_back() -> None:
    data = json.loads(json.dumps(finding.as_data(SOME)))
    assert finding.from_data(data) == SOME
    assert data["counts"] == {"pass": 1, "warn": 0, "fail": 1, "skipped": 0}


# -- the scheduler -----------------------------------------------------------------------------------------------------


def test_every_line_about_slurm_comes_with_and_without_one() -> None:
    assert tuple(scheduled()) == scheduler.LINES
    without = list(scheduler.no_scheduler("no answer"))
    assert tuple(each.name for each in without) == scheduler.LINES
    assert {each.verdict for each in without} == {"skipped"}


def test_versions_that_need_something_of_us_say_so() -> None:
    assert "SRUN_CPUS_PER_TASK" in scheduled()["slurm version"].value
    assert "runs once more" in scheduled(SLURM_VERSION="24.11.5")["slurm version"].value
    assert scheduled(SLURM_VERSION="26.05.0")["slurm version"] == Finding("slurm version", "26.05.0")
    assert scheduled(SLURM_VERSION="19.05.8")["slurm version"].verdict == "warn"


def test_array_limits_are_held_against_the_site_file() -> None:
    found = scheduled(site(max_array_size=1001), SchedulerParameters="max_array_tasks=500", MaxJobCount="900")
    verdicts = [found[name].verdict for name in ("MaxArraySize", "max_array_tasks", "MaxJobCount")]
    assert verdicts == ["pass", "fail", "fail"]
    assert found["max_array_tasks"].fix == "max_array_size: 500"


def test_limits_of_associations() -> None:
    limited = scheduled(site(), [Association("lab", None, 200), Association("other", 5, None)])["association limits"]
    assert limited.value == "lab: 200 submitted, any number running; other: any number submitted, 5 running"
    assert (limited.verdict, limited.fix[:19]) == ("warn", "max_array_size: 199")
    elsewhere = scheduled(site({"account": "other"}), [Association("lab", None, 200), Association("other", 5, None)])
    assert elsewhere["association limits"].verdict == "pass"
    assert scheduled()["association limits"].verdict == "skipped"
    assert scheduled(None, [])["association limits"].verdict == "warn"


def test_preemption_without_grace_and_with_cancelling() -> None:
    assert scheduled()["GraceTime"].verdict == "warn"
    assert scheduled(PreemptType="preempt/none")["GraceTime"].verdict == "pass"
    harsh = with_partition(cluster(), "scavenge", preempt_mode="CANCEL")
    found = {each.name: each for each in scheduler.scheduler_findings(harsh, None, "")}
    assert found["PreemptMode"].verdict == "warn" and "scavenge" in found["PreemptMode"].fix


CGROUPS: list[dict[str, str]] = [{"ConstrainRAMSpace": "yes"}, {"ConstrainRAMSpace": "no"}, {}]
"""cgroup.conf, whose default is no, as `scontrol show config` has it; not every SLURM shows it."""


def test_delays_and_tracking() -> None:
    assert scheduled()["requeue delay"].value.startswith("6 s")
    assert scheduled(AuthInfo="(null)")["requeue delay"].value.startswith("121 s")
    assert scheduled(MinJobAge="2 sec")["MinJobAge"].verdict == "warn"
    assert scheduled()["process tracking"].verdict == "warn"
    bound = {"ProctrackType": "proctrack/cgroup", "TaskPlugin": "task/affinity,task/cgroup"}
    found = [scheduled(**bound, **more)["process tracking"] for more in CGROUPS]
    assert [each.verdict for each in found] == ["pass", "warn", "warn"]
    assert [each.value.partition("; ")[2] for each in found] == [
        "memory limits are enforced by cgroups",
        "memory limits are not enforced by cgroups",
        "memory limits are perhaps not enforced by cgroups",
    ]


# -- the shell and the cache -------------------------------------------------------------------------------------------


def test_variables_that_change_what_sbatch_does_are_named_without_their_values() -> None:
    found = list(environment_findings({"SBATCH_ACCOUNT": "secret", "SLURM_JOB_ID": "1", "SLURM_CONF": "/x", "A": "b"}))
    assert [each.verdict for each in found] == ["warn", "warn"]
    assert "SBATCH_ACCOUNT" in found[0].value and "SLURM_CONF" not in found[1].value
    assert "secret" not in str(found)
    for harmless in ({"SLURM_CONF": "/x"}, {"SLURM_TIME_FORMAT": "relative", "SLURM_CONF": "/x"}):
        assert {each.verdict for each in environment_findings(harmless)} == {"pass"}


def test_old_locks_in_the_model_cache_are_counted(tmp_path: Path) -> None:
    locks = tmp_path / "hub" / ".locks" / "models--x"
    locks.mkdir(parents=True)
    for name, age in (("old", 7200), ("new", 0)):
        (locks / f"{name}.lock").touch()
        os.utime(locks / f"{name}.lock", (time.time() - age,) * 2)
    found = {each.name: each for each in cache_findings({"HF_HOME": str(tmp_path)}, None)}
    assert found["stale locks"].value.startswith("1 older") and found["stale locks"].verdict == "warn"
    assert (found["model cache"].verdict, found["offline flags"].value) == ("pass", "not set")
    assert {each.name: each for each in cache_findings({"HOME": "/none"}, site())}["model cache"].verdict == "warn"


def test_a_container_runtime_is_missed_only_where_the_site_names_it() -> None:
    apptainer = site(container={"runtime": "apptainer"})
    assert [each.verdict for each in container_findings(None, None, None)] == ["skipped", "skipped"]
    assert [each.verdict for each in container_findings(None, True, apptainer)] == ["fail", "pass"]
    assert [each.verdict for each in container_findings("apptainer 1.3", False, apptainer)] == ["pass", "skipped"]
    assert [each.verdict for each in container_findings(None, False, site(container={"runtime": "pyxis"}))][1] == "fail"


# -- storage -----------------------------------------------------------------------------------------------------------


def test_the_kind_of_a_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    inner = tmp_path / "a b"
    inner.mkdir()
    escaped = str(inner).replace(" ", "\\040")
    mounts = f"/dev/x / ext4 rw 0 0\nserver:/h {escaped} nfs4 rw 0 0\nq {tmp_path}x xfs rw 0 0\n"
    assert storage.filesystem(inner, mounts) == "nfs4"
    assert storage.filesystem(tmp_path, mounts) == "ext4"
    assert storage.filesystem(tmp_path / "none", mounts) is None


def test_publishing_is_tried_and_nothing_is_left(tmp_path: Path) -> None:
    assert storage.publishing(tmp_path).verdict == "pass"
    assert not list(tmp_path.iterdir())
    gone = storage.publishing(tmp_path / "gone")
    assert gone.verdict == "fail" and "not a folder on this host" in gone.value
    assert [each.verdict for each in storage.space(tmp_path / "gone")] == ["skipped", "skipped"]
    assert not list(tmp_path.iterdir())  # nor made


def test_a_file_system_that_gives_an_exclusive_name_twice_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", os.replace)
    assert storage.publishing(tmp_path).verdict == "fail"


def test_without_hard_links_a_name_is_not_exclusive_at_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    found = storage.publishing(tmp_path)
    assert (found.verdict, found.value) == ("warn", f"{tmp_path} on {storage.filesystem(tmp_path)}: no hard links")
    assert not list(tmp_path.iterdir())


def test_room_for_a_run() -> None:
    gib = 2**30
    assert [storage.bytes_left(size).verdict for size in (gib // 2, 10 * gib, 100 * gib)] == ["fail", "warn", "pass"]
    assert [storage.inodes_left(number).verdict for number in (10, 5_000, 10**6)] == ["fail", "warn", "pass"]


def test_scratch_is_where_the_site_s_lines_put_it_and_programs_must_run_from_it(tmp_path: Path) -> None:
    assert storage.scratch_of({"CODEIO_SCRATCH": "/node/codeio-7", "TMPDIR": "/x"}) == Path("/node")
    assert storage.scratch_of({"TMPDIR": "/x"}) == Path("/x")
    assert storage.scratch(tmp_path)[1].verdict == "pass"
    assert not list(tmp_path.iterdir())
    assert [each.verdict for each in storage.scratch(tmp_path / "none")] == ["fail", "skipped"]


# -- the notice planner ------------------------------------------------------------------------------------------------

GRACED = Preemption(mode="requeue", grace_seconds=60, warned=True)


def saved_every(minutes: float) -> StageRecipe:
    return StageRecipe(schedule="constant", lr=1.0, batch_size=8, steps=100, save_minutes=minutes)


def times(
    step: float, micro: float, save: float | None, publish: float | None, minutes: float = 10.0
) -> planner.TrainingTimes:
    return planner.TrainingTimes("stage1", step, micro, save, publish, saved_every(minutes))


QUICK = times(80.0, 2.0, 1.0, 5.0)


def planned(
    preemption: Preemption | None, stage: planner.TrainingTimes | None, kill_wait: int | None = 30
) -> list[Finding]:
    return list(planner.notice_findings(preemption, kill_wait, [stage] if stage else [], "no run was named"))


def test_the_interval_is_young_s() -> None:
    assert planner.interval_seconds(5.0, 4.0) == pytest.approx(math.sqrt(2 * 5 * 4 * 3600))


def test_stopping_in_order_fits_or_does_not() -> None:
    heading, fits, save = planned(GRACED, QUICK)
    assert heading.value == "90 s at preemption, then SIGKILL (GraceTime 60 s, KillWait 30 s)"
    assert fits.value == "stage1: 2 micro-batches of 2 s and a save of 5 s fit into 90 s"
    assert save.verdict == "pass"
    slow = times(30.0, 5.0, 60.0, 81.0, 60.0)
    _, fits, save = planned(GRACED, slow)
    assert fits.verdict == "warn" and "do not fit into 90 s" in fits.value
    # sqrt(2 * 60 * 14400) = 1315 s are 21.9 minutes
    assert save.value.startswith("stage1: 21.9 minutes, if one is stopped every 4 h without a chance to save")
    assert save.value.endswith("; the recipe says 60 minutes")
    assert (save.verdict, save.fix) == ("warn", "stages.stage1.save_minutes: 21.9 in the recipe")
    assert planned(GRACED, times(30.0, 5.0, 60.0, 81.0, 25.0))[2].verdict == "pass"
    assert planned(GRACED, times(4000.0, 50.0, 60.0, 81.0, 25.0))[2].verdict == "pass", "a step is the least there is"


def test_without_preemption_the_time_limit_s_warning_counts() -> None:
    heading, fits, _ = planned(Preemption(), QUICK)
    assert "300 s before its time limit" in heading.value and fits.verdict == "pass"


def test_what_is_not_known_is_skipped() -> None:
    assert [each.verdict for each in planned(None, None)] == ["skipped"] * 3
    assert [each.verdict for each in planned(GRACED, None, None)] == ["pass", "skipped", "skipped"]
    unsaved = planned(GRACED, times(2.0, 1.0, None, None))
    assert [each.verdict for each in unsaved] == ["pass", "skipped", "skipped"]


def test_times_are_measured_in_a_run_s_metrics(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "stage1"
    folder.mkdir(parents=True)
    lines = [
        json.dumps({"step": step, "seconds": 50.0 if step == 1 else 2.0, "micro_batches": 4}) for step in range(1, 8)
    ]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 8, "sec']))
    assert planner.training_times(tmp_path, {}) == [planner.TrainingTimes("stage1", 2.0, 0.5, None, None, None)]
    (folder / "saves.jsonl").write_text('{"step": 5, "seconds": 4.5, "published": 9.0}\n')
    assert planner.training_times(tmp_path, {"stage1": saved_every(10.0)}) == [times(2.0, 0.5, 4.5, 9.0)]


# -- the command -------------------------------------------------------------------------------------------------------


def test_on_a_laptop_slurm_s_lines_are_skipped_and_the_rest_is_looked_at(
    laptop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["doctor", "--json"])
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert {found[name]["verdict"] for name in ("cluster", *scheduler.LINES)} == {"skipped"}
    assert {each["where"] for each in found.values()} == {"login"}
    assert found["run folder"]["verdict"] == "pass"
    assert code == (1 if any(each["verdict"] == "fail" for each in found.values()) else 0)
    assert not list(laptop.iterdir())


def test_any_failure_is_exit_code_1(
    laptop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(examine, "examine", lambda *arguments: SOME)
    assert cli.main(["doctor"]) == 1
    monkeypatch.setattr(examine, "examine", lambda *arguments: SOME[:1])
    assert cli.main(["doctor"]) == 0


def test_compute_without_a_site_is_a_user_s_mistake(laptop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--compute"]) == 2
    assert "the site file says which nodes" in capsys.readouterr().err
    assert cli.main(["doctor", "--site", "nowhere"]) == 2
    assert cli.main(["doctor", "--run", "nowhere"]) == 2


def test_every_line_is_explained_on_the_page_and_the_page_explains_no_other() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "codeio_hpc/launch/doctor").glob("*.py")]
    made = set(re.findall(r'(?:Finding|_at_least)\(\s*f?"([^"]+)"', "\n".join(sources)))
    for written, shown in (("{name}", "CLASS"), ("{label}", "cpus a node"), ("{level}", "LEVEL")):
        made = {name.replace(written, shown) for name in made}
    made |= {"run folder, both ways", "CLASS memory a node", "CLASS gpus a node", "CLASS nodes", *scheduler.LINES}
    assert explained == made
