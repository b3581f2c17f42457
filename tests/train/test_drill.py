"""The drill without a cluster: its site, recipe and runs, how it waits, what it reads from the records."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from codeio_hpc.config.site import Preemption, Preemptor, Site
from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.launch import slurm
from codeio_hpc.launch.attempts import Attempt
from codeio_hpc.launch.notice import Notice
from codeio_hpc.train.drill import drill, jobs
from codeio_hpc.train.drill.figures import Round, Save, differences, rounds
from codeio_hpc.train.drill.place import Place, Size, make_place
from codeio_hpc.train.plan import make_plan

SITE = {
    "name": "here",
    "resources": {
        "cpu": {"time": "1h"},
        "gpu": {"partition": "small", "gpus_per_node": 1, "time": "10m"},
        "train": {
            "partition": "low",
            "account": "mine",
            "qos": "cheap",
            "nodes": 2,
            "ranks_per_node": 4,
            "time": "8h",
            "preemption": {"mode": "requeue"},
        },
    },
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "here.yaml"
    path.write_text(yaml.safe_dump(SITE), encoding="utf-8")
    return path


def place_with(folder: Path, preemptor: Preemptor | None, mode: str = "requeue") -> Place:
    site = Site.model_validate(SITE)
    train = site.resources.train
    assert train is not None
    train = train.model_copy(
        update={"preempted_by": preemptor, "preemption": Preemption.model_validate({"mode": mode})}
    )
    return Place(folder, site.model_copy(update={"resources": site.resources.model_copy(update={"train": train})}), 8)


def test_a_drill_has_a_site_of_its_size_and_two_runs_that_can_be_trained(site: Path) -> None:
    place = make_place(None, str(site), Size(nodes=1, ranks_per_node=2, steps=6))
    assert place.folder == Path("runs/drill-here").resolve()
    written = Site.model_validate(yaml.safe_load(place.site_file.read_text(encoding="utf-8")))
    assert written == place.site
    assert (place.resources.nodes, place.resources.ranks_per_node, place.resources.time) == (1, 2, 30)
    plans = [make_plan(run, "stage1") for run in (place.undisturbed, place.preempted)]
    assert plans[0].identity == plans[1].identity
    assert (plans[0].stage.steps, plans[0].stage.batch_size, plans[0].stage.micro_batch) == (6, 8, 1)


def test_another_class_gives_its_partition_and_a_short_limit_is_kept(site: Path) -> None:
    place = make_place(Path("elsewhere"), str(site), Size("gpu"))
    assert (place.resources.partition, place.resources.time, place.steps) == ("small", 10, 1000)


def test_what_cannot_be_drilled_is_refused_before_anything_is_made(site: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--steps 2"):
        make_place(None, str(site), Size(steps=2))
    with pytest.raises(UserError, match="--nodes 0"):
        make_place(None, str(site), Size(nodes=0))
    with pytest.raises(UserError, match="--times 0"):
        drill.drill(None, str(site), Size(), 0, 1, True)
    with pytest.raises(UserError, match="exists"):
        make_place(tmp_path, str(site), Size())
    site.write_text(yaml.safe_dump(SITE | {"requeue": "none"}), encoding="utf-8")
    with pytest.raises(UserError, match="do not come back by themselves"):
        make_place(None, str(site), Size())
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def notice() -> Iterator[Notice]:
    notice = Notice()
    yield notice
    notice.restore()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been given to SLURM."""
    said: list[list[str]] = []

    def ask(*command: str, **_: Any) -> str:
        said.append(list(command))
        return "7\n" if command[0] == "sbatch" else ""

    monkeypatch.setattr(slurm, "ask", ask)
    return said


def test_a_job_that_comes_first_asks_for_the_node_and_has_the_class_s_account(
    tmp_path: Path, asked: list[list[str]], notice: Notice
) -> None:
    all_jobs = jobs.Jobs(place_with(tmp_path, Preemptor(partition="high")), 1, True, notice)
    all_jobs.preempt(jobs.Training(all_jobs, tmp_path, "3"), "n1")
    [words] = asked
    assert words[:4] == ["sbatch", "--parsable", "--partition=high", "--account=mine"]
    assert "--nodelist=n1" in words and "--exclusive" in words
    assert not any(word.startswith("--qos") for word in words), "that of the other partition"
    all_jobs.cancel()
    assert asked[-1] == ["scancel", "--quiet", "7"]


def test_a_qos_that_comes_first_is_used_on_the_class_s_partition(
    tmp_path: Path, asked: list[list[str]], notice: Notice
) -> None:
    all_jobs = jobs.Jobs(place_with(tmp_path, Preemptor(qos="urgent")), 1, True, notice)
    all_jobs.preempt(jobs.Training(all_jobs, tmp_path, "3"), "n1")
    assert asked[0][2:5] == ["--partition=low", "--account=mine", "--qos=urgent"]


@pytest.mark.parametrize(("preemptor", "mode"), [(None, "requeue"), (Preemptor(partition="high"), "cancel")])
def test_where_no_job_can_do_it_the_job_is_requeued_and_the_report_says_so(
    tmp_path: Path, asked: list[list[str]], notice: Notice, preemptor: Preemptor | None, mode: str
) -> None:
    place = place_with(tmp_path, preemptor, mode)
    all_jobs = jobs.Jobs(place, 1, True, notice)
    all_jobs.preempt(jobs.Training(all_jobs, tmp_path, "3"), "n1")
    assert asked == [["scontrol", "requeue", "3"]]
    way = jobs.way_of(place)
    assert "scontrol requeue" in way.text and "notice" in way.shows_not
    assert ("would not bring the job back" in way.shows_not) == (mode == "cancel")


def test_a_preemptor_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="name the partition, or the qos"):
        Preemptor(account="mine")


@pytest.fixture
def training(tmp_path: Path, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, notice: Notice) -> jobs.Training:
    monkeypatch.setattr(jobs, "_LOOK", 0.01)
    monkeypatch.setattr(jobs, "_ASK", 0.05)
    return jobs.Training(jobs.Jobs(place_with(tmp_path, None), 0.3, True, notice), tmp_path / "run", "3")


def test_a_training_that_failed_ends_the_wait_with_the_end_of_its_log(training: jobs.Training) -> None:
    training.log.write_text(
        "== attempt 0 starts on n1\nNo module named torch\n== attempt 0 ends: exit code 1\n", "utf-8"
    )
    with pytest.raises(RunFailedError, match=r"job 3 failed(.|\n)*No module named torch"):
        training.jobs.wait(training, lambda: False, "step 1")


@pytest.mark.parametrize("code", [0, 75, 85])
def test_an_attempt_that_is_followed_by_another_ends_no_wait(training: jobs.Training, code: int) -> None:
    training.log.write_text(f"== attempt 0 starts on n1\n== attempt 0 ends: exit code {code}\n", "utf-8")
    training.refuse_failure()


def queue_with(monkeypatch: pytest.MonkeyPatch, *queued: slurm.QueuedJob) -> None:
    monkeypatch.setattr(slurm, "queue", lambda: list(queued))


def test_a_job_that_slurm_has_no_more_ends_the_wait(training: jobs.Training, monkeypatch: pytest.MonkeyPatch) -> None:
    queue_with(monkeypatch)
    with pytest.raises(RunFailedError, match="no step 1; job 3 is in the queue no more"):
        training.jobs.wait(training, lambda: False, "step 1")


def test_a_wait_ends_by_itself_and_says_what_slurm_says(
    training: jobs.Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_with(monkeypatch, slurm.QueuedJob("3", None, "x", "PENDING", "Resources"))
    with pytest.raises(RunFailedError, match=r"no step 1 within 0:00; job 3 is PENDING \(Resources\); its log"):
        training.jobs.wait(training, lambda: False, "step 1")


def test_whatever_happens_what_was_submitted_is_cancelled(
    site: Path, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hung(*_: Any) -> None:
        raise RunFailedError("no step 1")

    monkeypatch.setattr(jobs.Jobs, "wait", hung)
    with pytest.raises(RunFailedError):
        drill.drill(None, str(site), Size(steps=4), 1, 1, True)
    assert [words[0] for words in asked] == ["sbatch", "scancel"]
    assert asked[-1] == ["scancel", "--quiet", "7"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_ends_it_and_not_while_it_talks_to_slurm(
    site: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Or a job that was submitted would stay, because the drill never heard its number, or did not get to cancel it."""
    handler = Mock()
    before = signal.signal(number, handler)
    answered: list[str] = []

    def ask(*command: str, **_: Any) -> str:
        os.kill(os.getpid(), number)
        answered.append(command[0])
        return "7\n" if command[0] == "sbatch" else ""

    monkeypatch.setattr(slurm, "ask", ask)
    try:
        with pytest.raises(KeyboardInterrupt):
            drill.drill(None, str(site), Size(steps=4), 1, 1, True)
    finally:
        assert signal.signal(number, before) is handler, "it is given back"
    handler.assert_not_called()
    assert answered == ["sbatch", "scancel"]


def test_a_hangup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        notice = Notice(hangup=True)
        os.kill(os.getpid(), signal.SIGHUP)
        assert notice.received is None
        notice.restore()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_training_that_ends_before_it_is_preempted_proves_nothing(
    site: Path, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.Jobs, "wait", lambda *_: None)
    monkeypatch.setattr(jobs.Training, "is_done", lambda _: True)
    with pytest.raises(RunFailedError, match="ended before SLURM preempted it; make it longer: --steps 16"):
        drill.drill(None, str(site), Size(steps=4), 1, 1, True)


def attempt(restart: int, start: float, **moments: float) -> Attempt:
    record = Attempt("stage1-job3", 0, restart, None, "n1", 1, "3", None, "2026-01-01T00:00:00Z")
    record.moments = {"script": start} | moments
    record.signal = "SIGUSR1" if "told" in moments else None
    return record


STARTED = {"queued": 95.0, "script": 101.5, "process": 102.0, "met": 104.0, "loaded": 107.0, "step": 107.5}


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_the_figures_of_each_round_are_those_of_its_attempts(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "stage1"
    write_lines(folder / "metrics.jsonl", [{"step": 1, "seconds": 2.0}])
    saves = [
        {"step": 4, "seconds": 0.1, "published": 0.5, "time": 80.0},
        {"step": 6, "seconds": 0.2, "published": 0.4, "time": 91.0},
        {"step": 8, "seconds": 0.3, "published": 0.6, "time": 110.0},
    ]
    write_lines(folder / "saves.jsonl", saves)
    write_lines(folder / "lost.jsonl", [{"step": step, "seconds": 1.5, "time": 206.0} for step in (9, 10)])
    told, killed, last = attempt(0, 50, told=90.5), attempt(1, **STARTED, start=101.5), attempt(2, 205, queued=200.0)
    first, second = rounds(tmp_path, [told, killed, last])
    assert (first.signal, first.notice, first.lost_steps) == ("SIGUSR1", 4.5, 0)
    assert first.save == Save(6, 0.2, 0.4, True)
    parts = {"queue": 6.5, "batch script": 0.5, "libraries": 2.0, "loading": 3.0, "first step": 0.5}
    assert first.restart == parts
    assert first.restart_seconds == 12.5
    assert (second.signal, second.notice) == (None, None)
    assert second.save == Save(8, 0.3, 0.6, False)
    assert (second.lost_steps, second.lost_seconds, second.begun_seconds) == (2, 3.0, 2.0)
    assert second.restart_seconds is None and second.restart == {"queue": 5.0}


@pytest.fixture
def trained(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two runs that differ in nothing but times."""
    for name, seconds in (("one", 1.0), ("two", 2.0)):
        write_lines(tmp_path / name / "train/stage1/metrics.jsonl", [{"step": 1, "loss": 0.5, "seconds": seconds}])
        (tmp_path / name / "models" / "stage1").mkdir(parents=True)
        (tmp_path / name / "models" / "stage1" / "model.safetensors").write_bytes(b"weights")
    yield tmp_path / "one", tmp_path / "two"


def test_equal_but_for_times_is_identical(trained: tuple[Path, Path]) -> None:
    assert differences(*trained) == []


def test_a_loss_or_a_weight_that_differs_is_said(trained: tuple[Path, Path]) -> None:
    path = trained[0] / "train/stage1/metrics.jsonl"
    write_lines(path, [{"step": 1, "loss": 0.5000000001, "seconds": 1}])
    assert differences(*trained) == ["the curves of loss and gradient norm (first at step 1, 1 in all)"]
    (trained[0] / "models" / "stage1" / "model.safetensors").write_bytes(b"weightS")
    path.write_text("", encoding="utf-8")
    assert differences(*trained) == ["the curves of loss and gradient norm (0 and 1 steps)", "the weights"]


def test_the_report_has_the_five_figures(tmp_path: Path) -> None:
    place = place_with(tmp_path, None)
    restart = {"queue": 6.5, "batch script": 0.5, "libraries": 2.0, "loading": 3.0, "first step": 0.5}
    told = Round("SIGTERM", 30.2, Save(6, 0.04, 0.4, True), 0, 0.0, 1.0, restart)
    killed = Round(None, None, None, 5, 6.2, 1.0, {})
    report = drill.Report(place, jobs.way_of(place), 1, [told, killed], ["the weights"], 1)
    text = drill.as_text(report)
    for line in (
        "site here: 2 nodes x 4 ranks, 8 steps; ended by `scontrol requeue`, not by another job",
        "  notice        30.2 s from SIGTERM until the job had left its nodes",
        "  save          0.04 s blocked, published after 0.40 s (step 6)",
        "  lost work     no finished step, and what was begun of the next (at most 1.0 s)",
        "  restart       12.5 s (queue 6.5, batch script 0.5, libraries 2.0, loading 3.0, first step 0.5)",
        "  notice        none",
        "  save          none was published before the end",
        "  lost work     5 finished steps (6.2 s), and what was begun of the next (at most 1.0 s)",
        "  bit-identical NO: the weights differ",
        "1 of these restarts were not the drill's doing",
    ):
        assert line in text.splitlines(), text
    data = drill.as_data(report)
    assert data["identical"] is False and data["rounds"][0]["restart_seconds"] == 12.5
    json.dumps(data)


def test_moments_are_spread_over_the_training() -> None:
    for _ in range(50):
        first, second, third = drill._moments(30, 3)
        assert 2 <= first <= 8 <= second <= 16 <= third <= 24
