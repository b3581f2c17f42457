"""A plan says what a build then turns out to be; and it says what it does not know."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.cli import main
from codeio_hpc.config import parse
from codeio_hpc.config.run import RunConfig
from codeio_hpc.config.site import Site
from codeio_hpc.errors import UserError
from codeio_hpc.launch.attempts import read_attempts
from codeio_hpc.launch.commands import build
from codeio_hpc.launch.operations import count_files, pack
from codeio_hpc.launch.packing import cost_of_step
from codeio_hpc.launch.plan import steps
from codeio_hpc.launch.planning.forecast import Assumptions, forecast, plan_data, timeline
from codeio_hpc.launch.planning.forecast_text import forecast_text
from codeio_hpc.launch.planning.measured import DEFAULTS, measure
from codeio_hpc.launch.planning.simulate import Outcome
from codeio_hpc.launch.run import Run, open_run
from codeio_hpc.launch.status import run_status

SITE = parse(
    Site,
    {"name": "s", "resources": {"cpu": {"time": "2h", "cpus_per_rank": 2, "preemption": {"mode": "requeue"}}}},
    "s.yaml",
)
CONFIG = RunConfig.model_validate({"name": "planned", "sources": [{"name": "std", "stdlib": True}]})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small run that is complete; its configuration lies beside it."""
    folder = tmp_path_factory.mktemp("built")
    sources = Path(__file__).parents[1] / "sources"
    data = {
        "name": "small",
        "sources": [{"name": "here", "path": str(sources)}],
        "collect": {"files_per_shard": 2},
        "sample": {"pairs": 3},
        "launch": {"workers": 0},
    }
    (folder / "config.yaml").write_text(json.dumps(data), encoding="utf-8")
    build(folder / "config.yaml", [], [], folder / "run", None, False, True)
    return open_run(folder / "run")


def planned(**assumed: Any) -> dict[str, Any]:
    return forecast(CONFIG, SITE, DEFAULTS, Assumptions(files=6400, **assumed))


def test_the_plan_of_a_run_like_one_that_was_built_is_what_was_built(built: Run) -> None:
    plan = plan_data(built.folder.parent / "config.yaml", [], None, built.folder, [])
    status = run_status(built)
    assert plan["files"] == status["files"] and plan["shards"] == built.shards
    assert plan["rows"] == {"00-sources": status["files"], **{each["stage"]: each["rows"] for each in status["stages"]}}
    assert plan["differs"] == []
    calm = plan["scenarios"]["calm"]
    assert calm["attempts"] == sum(1 for _ in read_attempts(built.folder))
    assert calm["files"]["end"] == count_files(built.folder)
    assert calm["files"]["packed"] == pack(built)["files_after"]
    published = sum(path.stat().st_size for path in built.stages.rglob("*") if path.is_file())
    assert plan["bytes"] == pytest.approx(published, rel=0.02), "without decisions"


def test_a_step_costs_what_the_engine_would_take_it_to_cost(built: Run) -> None:
    plan = plan_data(built.folder.parent / "config.yaml", [], None, built.folder, [])
    attempts = list(read_attempts(built.folder))
    for step, told in zip(steps(built), plan["steps"], strict=True):
        cost = cost_of_step(attempts, step.number, step.recorded[0], 10)
        assert told["seconds_a_shard"] == pytest.approx(cost.per_shard, rel=0.01)


def test_quantities_follow_what_is_assumed_of_the_data() -> None:
    rows = planned(functions_per_file=0.5, pairs_per_function=4, instances_per_pair=2)["rows"]
    assert (rows["transform"], rows["sample"], rows["pose"]) == (3200, 12800, 25600)
    usual, twice = planned(), planned(cost=2)
    for one, two in zip(usual["steps"], twice["steps"], strict=True):
        assert two["seconds_a_shard"] == pytest.approx(2 * one["seconds_a_shard"])
    assert usual["rows"]["transform"] == round(6400 * DEFAULTS.of("collect").rows * DEFAULTS.of("transform").rows)


def test_a_round_on_slurm_leaves_its_folder_its_record_one_log_and_one_archive_and_has_submitits_files_meanwhile() -> (
    None
):
    """As counted on a real SLURM: tools/bench/scheduler_load.py."""
    here = forecast(CONFIG, None, DEFAULTS, Assumptions(files=6400))["scenarios"]["calm"]
    there = planned()["scenarios"]["calm"]
    own = there["files"]
    rounds, tasks = len(there["rounds"]), there["rounds"][-1]["tasks"]
    assert own["end"] - (here["files"]["end"] - here["attempts"]) == 4 * rounds + 3, "the last steering job's files"
    assert own["peak"] - own["end"] == (tasks + 2 + 3 * tasks + 1 + 4) - 4, "of the last round"
    assert there["files"]["packed"] - here["files"]["packed"] == 2 * rounds


def test_faults_are_on_a_site_only_and_cost_something() -> None:
    plan = planned(preemptions=20)
    calm, faults = plan["scenarios"]["calm"], plan["scenarios"]["faults"]
    assert faults["seconds"] > calm["seconds"] and faults["lost_share"] > calm["lost_share"] == 0
    assert calm["causes"].keys() == {"done"} and faults["causes"]["preempted"]
    assert calm["cpu_hours"]["allocated"] == pytest.approx(2 * _task_hours(calm), rel=0.2), "a task has two CPUs"
    assert forecast(CONFIG, None, DEFAULTS, Assumptions(files=6400))["scenarios"].keys() == {"calm"}


def _task_hours(scenario: dict[str, Any]) -> float:
    times, running = scenario["timeline"]["seconds"], scenario["timeline"]["running"]
    return sum((after - before) * count for before, after, count in zip(times, times[1:], running, strict=False)) / 3600


def test_the_timeline_ends_with_everything_published_and_nothing_at_work() -> None:
    for found in planned()["scenarios"].values():
        line = found["timeline"]
        assert (line["published"][0], line["published"][-1]) == (0, 1) and line["running"][-1] == 0
        assert line["published"] == sorted(line["published"]) and line["lost"] == sorted(line["lost"])
        assert max(line["running"]) <= SITE.max_tasks_at_once
    assert set(timeline(Outcome())["published"]) == {0}


def test_what_the_figures_were_measured_with_is_compared_with_the_configuration() -> None:
    assert planned()["differs"] == []
    other = CONFIG.model_copy(update={"sample": CONFIG.sample.model_copy(update={"pairs": 3})})
    plan = forecast(other, SITE, DEFAULTS, Assumptions(files=100))
    assert plan["differs"] == ["sample.pairs"]
    assert "measured with other values of: sample.pairs" in forecast_text(plan)


def test_a_plan_that_ends_nowhere_says_why() -> None:
    text = forecast_text(planned(cost=100_000))
    assert "stops" in text and "raise launch.task_time, or lower collect.files_per_shard" in text


def test_an_assumption_that_does_not_exist_is_a_mistake_that_is_explained() -> None:
    with pytest.raises(UserError, match="preemption"):
        plan_data(Path("configs/runs/demo.yaml"), [], None, None, ["preemption=3"])


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "1e999"])
def test_an_assumption_is_a_number_that_can_be_reckoned_with(value: str) -> None:
    with pytest.raises(UserError, match="'cost' is"):
        plan_data(Path("configs/runs/demo.yaml"), [], None, None, ["files=10", f"cost={value}"])


def test_a_plot_that_cannot_be_written_costs_nothing_else(
    built: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", "data", str(built.folder.parent / "config.yaml"), "--plot"]
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "plan.svg"):
        assert main([*command, str(path)]) == 2
        shown = capsys.readouterr()
        assert "CPU-hours" in shown.out
        assert f"{path}: " in shown.err and "the plot is written there" in shown.err


def test_a_run_that_tells_nothing_cannot_be_taken_for_figures(built: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((built.folder / "run.json").read_bytes())
    with pytest.raises(UserError, match="what it takes and gives cannot be told"):
        measure(open_run(tmp_path))


def test_the_command_prints_a_table_or_json_and_draws(
    built: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(SITE.model_dump_json().replace('"time":120', '"time":"2h"'), encoding="utf-8")
    command = ["plan", "data", str(built.folder.parent / "config.yaml"), "--site", str(tmp_path / "s.yaml")]
    assert main([*command, "--plot", str(tmp_path / "plan.svg"), "--assume", "preemptions=3", "sample.pairs=2"]) == 0
    text = capsys.readouterr().out
    assert "calls of sbatch" in text and "preemptions=3" in text and "sample.pairs" in text
    assert all(len(line) <= 120 for line in text.splitlines() if str(built.folder) not in line)
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scenarios"].keys() == {"calm", "faults"}
    drawn = ElementTree.parse(tmp_path / "plan.svg").getroot()
    lines = [each for each in drawn.iter() if each.tag.endswith("polyline")]
    assert len(lines) == 3 * 2, "three charts, with and without faults"
    assert not any("nan" in str(each.attrib) for each in lines)
