"""A calculated build: what holds whatever goes wrong, and that it does what a real one would do."""

from __future__ import annotations

import itertools
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from codeio_hpc.config import parse
from codeio_hpc.config.run import LaunchSettings, RunConfig
from codeio_hpc.config.site import Site
from codeio_hpc.launch import submission
from codeio_hpc.launch.commands import carry_on
from codeio_hpc.launch.executors import TaskCall
from codeio_hpc.launch.planning.nodes import Assumed
from codeio_hpc.launch.planning.simulate import Outcome, StepLoad, simulate
from codeio_hpc.launch.rounds import read_rounds
from codeio_hpc.launch.run import create_or_open_run

STEPS = [StepLoad("first", 64, {"a": 10.0}), StepLoad("second", 50, {"b": 20.0, "c": 40.0, "d": 5.0})]
STAGES = 4
CALM = Assumed(spread=0.0).calm()
FAULTS = Assumed(
    tasks_per_node=2, preemptions=2, slow_nodes=0.2, slowness=4, bad_nodes=0.1, bad_node_seconds=100, node_failures=3
)


def site(mode: str = "requeue", **more: Any) -> Site:
    cpu = {"time": "2h", "preemption": {"mode": mode}}
    return parse(Site, {"name": "s", "resources": {"cpu": cpu}, "max_tasks_at_once": 20, **more}, "s.yaml")


def course(
    assumed: Assumed = FAULTS, where: Site | None = None, shards: int = 200, seed: int = 0, **launch: Any
) -> Outcome:
    settings = LaunchSettings().model_copy(update={"tasks": 20, "task_lasts": 10, "task_time": 20, **launch})
    return simulate(STEPS, shards, settings, where or site(), assumed, seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("requeue", ["self", "slurm", "none"])
@pytest.mark.parametrize("mode", ["requeue", "cancel"])
def test_each_shard_of_each_stage_is_published_exactly_once(mode: str, requeue: str, seed: int) -> None:
    outcome = course(where=site(mode, requeue=requeue), seed=seed)
    assert outcome.failed is None
    assert outcome.done == {(stage, shard): 1 for stage in "abcd" for shard in range(200)}
    assert len(outcome.published_at) == STAGES * 200 == sum(each.parts for each in outcome.rounds)
    assert outcome.causes["preempted"] and outcome.causes["killed"], "there were faults"


def test_no_second_of_a_task_is_unaccounted_for() -> None:
    outcome = course()
    assert outcome.published + outcome.lost + outcome.starting == pytest.approx(
        sum(-sign * when for when, sign in outcome.running)
    )
    assert outcome.lost > 0 and outcome.lost == pytest.approx(sum(seconds for _, seconds in outcome.lost_at))
    assert sum(sign for _, sign in outcome.running) == 0
    assert max(outcome.published_at) < outcome.seconds


@pytest.mark.parametrize(("at_once", "waves"), [(20, 1), (7, 3)])
def test_without_faults_the_time_is_the_sum_of_what_it_consists_of(at_once: int, waves: int) -> None:
    """Of each step: the array's wait in the queue, its waves of ten equal shards a task, and the job that steers on."""
    outcome = course(CALM, site(max_tasks_at_once=at_once))
    steers = 2 * (CALM.queue_seconds + CALM.steer_seconds + 200 * CALM.steer_shard_seconds)
    work = sum(CALM.queue_seconds + waves * (CALM.start_seconds + 10 * cost) for cost in (10, 65))
    assert outcome.seconds == pytest.approx(steers + work)
    assert outcome.lost == 0 and outcome.attempts == 40


def test_equal_arguments_give_equal_outcomes_and_another_seed_another() -> None:
    assert course(seed=3) == course(seed=3)
    assert course(seed=3) != course(seed=4)


@pytest.mark.parametrize(
    "fault",
    [
        {"preemptions": 6.0},
        {"slow_nodes": 0.4, "slowness": 3.0},
        {"bad_nodes": 0.4, "bad_node_seconds": 60.0},
        {"node_failures": 40.0, "repair_seconds": 600.0},
    ],
)
def test_no_fault_makes_builds_faster_on_average_nor_uses_less(fault: dict[str, float]) -> None:
    def courses(*, share: float) -> list[Outcome]:
        scaled = {
            name: share * value if name not in ("slowness", "bad_node_seconds") else value
            for name, value in fault.items()
        }
        return [course(Assumed(tasks_per_node=4).calm().model_copy(update=scaled), seed=seed) for seed in range(8)]

    few = [courses(share=share) for share in (0.0, 0.25, 1.0)]
    times = [mean(outcome.seconds for outcome in outcomes) for outcomes in few]
    used = [mean(outcome.allocated for outcome in outcomes) for outcomes in few]
    assert times == sorted(times) and times[0] < times[-1]
    assert used == sorted(used) and used[0] < used[-1]


def test_a_preempted_task_loses_the_stage_in_hand_and_no_more() -> None:
    only = Assumed(spread=0.0).calm().model_copy(update={"preemptions": 4.0})
    outcome = course(only)
    assert outcome.causes.keys() == {"done", "preempted"}
    assert len(outcome.lost_at) <= outcome.causes["preempted"]
    assert max(seconds for _, seconds in outcome.lost_at) < 40, "c, the longest stage"
    assert len(outcome.rounds) == 2, "the site starts them again: no round is needed for them"
    assert len(course(only, site("cancel")).rounds) > 2
    assert course(only, site("off")).causes.keys() == {"done"}


def test_nodes_that_killed_two_attempts_are_left_out_and_not_used_again() -> None:
    bad = Assumed(tasks_per_node=4).calm().model_copy(update={"bad_nodes": 0.2, "bad_node_seconds": 30.0})
    outcome = course(bad)
    assert outcome.causes["killed"] >= 2
    later = [each for each in outcome.rounds if each.exclude]
    assert later, "there was a round after it"
    for record in outcome.rounds:
        assert not record.hosts & set(record.exclude)
    assert {name for record in later for name in record.exclude} == {"n00000"} or len(later[-1].exclude) <= 5 // 3


def test_if_most_nodes_are_bad_some_are_still_used() -> None:
    bad = Assumed(tasks_per_node=4, spread=0).calm().model_copy(update={"bad_nodes": 1.0, "bad_node_seconds": 400.0})
    outcome = course(bad)
    assert all(len(each.exclude) <= 5 // 3 for each in outcome.rounds)
    assert outcome.done.total() == STAGES * 200


def test_what_does_not_fit_the_time_limit_is_started_again_or_left_to_the_next_round() -> None:
    """Twenty shards of 65 s a task; a limit of 10 minutes."""
    again = course(CALM, shards=400, task_time=10)
    assert again.causes["time limit"] == again.calls["scontrol requeue"] > 0
    assert len(again.rounds) == 2
    by_slurm = course(CALM, site(requeue="slurm"), shards=400, task_time=10)
    assert by_slurm.calls["scontrol requeue"] == 0 and len(by_slurm.rounds) == 2
    left = course(CALM, site(requeue="none"), shards=400, task_time=10)
    assert left.calls["scontrol requeue"] == 0 and len(left.rounds) > 2
    for owner in ("self", "slurm"):
        bounded = course(CALM, site(requeue=owner, max_requeues=0), shards=400, task_time=10)
        assert bounded.calls["scontrol requeue"] == 0 and len(bounded.rounds) > 2
    for outcome in (again, by_slurm, left, bounded):
        assert outcome.lost == 0, "the worker begins no shard that would not fit"
        assert max(each.longest for each in outcome.rounds) <= 600


def test_the_site_s_time_bounds_that_of_a_task() -> None:
    short = site().model_copy(deep=True)
    resources = short.resources.model_copy(update={"cpu": short.resources.cpu.model_copy(update={"time": 10})})
    outcome = course(CALM, short.model_copy(update={"resources": resources}), shards=400, task_time=60)
    assert max(each.longest for each in outcome.rounds) <= 600


def test_a_shard_that_never_fits_stops_the_build_as_it_would_a_real_one() -> None:
    slow = CALM.model_copy(update={"slow_nodes": 1.0, "slowness": 40.0})
    outcome = course(slow)
    assert outcome.failed == "step second, shard 0 failed 3 times: it does not fit into the time limit"
    assert [each.name for each in outcome.rounds] == ["first"] + ["second"] * 3
    assert outcome.done["b", 0] == 1, "stages that fit were published all the same"
    preempted = course(CALM.model_copy(update={"preemptions": 3600.0}))
    assert preempted.failed is not None and preempted.failed.endswith("was started 300 times")
    cancelled = course(CALM.model_copy(update={"preemptions": 3600.0}), site("cancel"))
    assert cancelled.failed == "step first: 200 shards are still missing after 4 rounds"


def test_an_assumption_about_costs_that_is_wrong_costs_a_round_and_then_they_are_measured() -> None:
    outcome = course(CALM, site("cancel", requeue="none"), shards=2000, tasks=1, shard_seconds=1.0, task_time=30)
    second = [each for each in outcome.rounds if each.name == "second"]
    assert second[0].tasks == 4 and second[0].expected_seconds == 500, "2,000 shards of 1 s in tasks of 10 minutes"
    assert len(second) == 2
    assert second[1].expected_seconds == pytest.approx(10 * 65, rel=0.2)


@pytest.mark.parametrize(("array", "at_once"), [(1001, 20), (7, 20), (3, 5)])
def test_never_more_tasks_at_once_than_the_site_allows(array: int, at_once: int) -> None:
    outcome = course(where=site(max_array_size=array, max_tasks_at_once=at_once), tasks=33)
    at_work = list(itertools.accumulate(change for _, change in sorted(outcome.running)))
    assert max(at_work) == at_once
    assert all(each.arrays == -(-each.tasks // array) for each in outcome.rounds)


def test_a_node_that_is_down_is_waited_for() -> None:
    one = Assumed(nodes=1, tasks_per_node=2).calm().model_copy(update={"node_failures": 30.0, "repair_seconds": 900.0})
    outcome = course(one)
    assert outcome.causes["node"] > 3 and outcome.failed is None


def test_local_workers_ask_nobody_and_wait_for_nobody() -> None:
    settings = LaunchSettings(workers=4)
    outcome = simulate(STEPS, 200, settings, None, FAULTS.model_copy(update={"spread": 0.0}))
    assert not outcome.calls and outcome.causes == {"done": 8}
    assert outcome.seconds == pytest.approx(2 * (3 + 0.9) + 50 * 75)


def test_calls_arrays_and_tasks_are_those_of_a_real_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real engine, with a SLURM that carries out at once whatever is submitted; the files hold no function, so that
    no sandbox has to be started."""
    where = site("off", max_array_size=2)
    for number in range(7):
        (tmp_path / f"constants{number}.py").write_text(f"VALUE = {number} * 3\n", encoding="utf-8")
    data = {
        "name": "constants",
        "sources": [{"name": "here", "path": str(tmp_path)}],
        "collect": {"files_per_shard": 1, "min_bytes": 1, "near_duplicates": None},
        "launch": {"tasks": 5},
    }
    config = parse(RunConfig, data, "constants.yaml")
    run = create_or_open_run(tmp_path / "run", config)
    asked: list[str] = []
    steers: list[Any] = []

    def submit(folder: Path, parameters: dict[str, Any], python: str, calls: list[Any]) -> str:
        asked.append("sbatch")
        for call in calls:
            if isinstance(call, TaskCall):
                call()
            else:
                steers.append(call)
        return str(len(asked))

    def queue() -> list[Any]:
        asked.append("squeue")
        return []

    monkeypatch.setattr(submission, "submit", submit)
    monkeypatch.setattr(submission.slurm, "queue", queue)
    carry_on(run, where, wait=False, quiet=True)
    while steers:
        steers.pop()
        submission.carry_on(run, where, queue(), quiet=True)
    records = read_rounds(run)
    loads = [StepLoad(record.name, 1, {"any": 1.0}) for record in records]
    outcome = simulate(loads, run.shards, config.launch, where, CALM)
    assert outcome.calls == {name: asked.count(name) for name in ("sbatch", "squeue")}
    assert [(each.tasks, each.arrays) for each in outcome.rounds] == [
        (len(record.tasks), len(record.arrays)) for record in records
    ]
