"""Training that is preempted again and again, as typed on a real cluster: the same losses and weights, bit for bit."""

from __future__ import annotations

import math
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.train.tiny_run import MODEL, metrics, write_run

from .conftest import FINAL_STATES, ROOT, SlurmBox

pytestmark = pytest.mark.long

TIMES = {"stage1": 12, "stage2": 8}
STEPS = {"stage1": 150, "stage2": 100}
LENGTH = 120
RECIPE = f"""
name: preempted
model: {MODEL}
initial: random
sequence_length: {LENGTH}
stages:
  stage1: {{schedule: constant, lr: 1.0e-3, batch_size: 16, batch_unit: sequences, steps: {STEPS["stage1"]},
           save_every: 10, validation_fraction: 0.05}}
  stage2: {{schedule: cosine, lr: 1.0e-3, min_lr: 1.0e-4, batch_size: 16, batch_unit: sequences,
           steps: {STEPS["stage2"]}, save_every: 10}}
"""
TOLERANCE = 1e-5
"""Of losses at another number of ranks, relative: sums are taken in another order."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's folder as a user has it, with a run that needs no data, and site files of other sizes."""
    folder = tmp_path_factory.mktemp("house")
    for name in ("slurm", "configs"):
        (folder / name).symlink_to(ROOT / name)
    write_run(folder / "made", RECIPE, LENGTH, sequences=64)
    box = (ROOT / "configs" / "sites" / "box.yaml").read_text(encoding="utf-8")
    for nodes in (1, 2):  # nobody brings these jobs back, and a signal is the warning before the time limit
        text = re.sub(r"nodes: \d", f"nodes: {nodes}", box).replace("warned: true", "warned: false")
        (folder / f"{nodes}-nodes.yaml").write_text(f"{text}requeue: none\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def undisturbed(slurm_box: SlurmBox, house: Path) -> Path:
    """Both stages, trained without a disturbance on two nodes with two ranks each."""
    run = new_run(house, "undisturbed")
    for stage, steps in STEPS.items():
        job = Job(slurm_box, house, run, stage)
        job.submit("box")
        record = job.wait()
        assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "0"), job.log()
        assert len(metrics(run, stage)) == steps
    return run


def new_run(house: Path, name: str) -> Path:
    run = house / "runs" / name
    shutil.copytree(house / "made" / "run", run)
    return run


@dataclass
class Job:
    """One job of a training stage."""

    box: SlurmBox
    house: Path
    run: Path
    stage: str
    id: str = ""

    def submit(self, site: str) -> None:
        """As typed by a user; the job that the typed one submits in its place is this one."""
        typed = self.box.sbatch(f"slurm/{self.stage}.sh", str(self.run), env=environment(site), cwd=self.house)
        self.box.wait_job(typed)
        found = re.search(r"submitted it with them as job (\d+)", self._log_of(typed))
        assert found, self._log_of(typed)
        self.id = found.group(1)

    def log(self) -> str:
        return self._log_of(self.id)

    def _log_of(self, job: str) -> str:
        path = self.house / f"codeio-{self.stage}-{job}.out"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else f"no {path}"

    def record(self) -> dict[str, str]:
        return self.box.jobs(self.id)[0]

    def wait(self, timeout: float = 1200) -> dict[str, str]:
        return self.box.wait_job(self.id, timeout)[0]

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float = 400) -> None:
        """Wait as long as the job has not ended."""
        deadline = time.monotonic() + timeout
        while not condition():
            record = self.record()
            assert record["JobState"] not in FINAL_STATES, f"ended before {what}: {record}\n{self.log()}"
            assert time.monotonic() < deadline, f"no {what} within {timeout} s: {record}\n{self.log()}"
            time.sleep(0.3)

    def attempt(self, number: int) -> Path:
        return self.run / "attempts" / f"{self.stage}-job{self.id}-task00000-start{number}.json"

    def steps(self) -> int:
        return len(metrics(self.run, self.stage))


def environment(site: str) -> dict[str, str]:
    return {"CODEIO_SITE": site, "CODEIO_PYTHON": sys.executable}


def take_the_nodes(job: Job) -> None:
    """A job on the partition above."""
    rival = ["-p", "gpu", "-A", "research", "-N2", "--exclusive", "-o", "/dev/null", "--wrap=sleep 1"]
    job.box.wait_job(job.box.sbatch(*rival), timeout=180)


def requeue(job: Job) -> None:
    job.box.run(["scontrol", "requeue", job.id])


WAYS = {"by a job that comes first": take_the_nodes, "by scontrol requeue": requeue}


def preempt(job: Job, times: int, total: int, chance: random.Random) -> Iterator[str]:
    """Preempt a job that many times, at random steps or while it starts; a line about each."""
    targets = sorted(chance.sample(range(3, total - 8), times))
    for number, target in enumerate(targets):
        job.wait_for(lambda n=number: job.attempt(n).exists(), f"start {number}")
        if number and chance.random() < 0.25:
            seconds = chance.uniform(0, 6)
            time.sleep(seconds)
            where = f"{seconds:.1f} s after rank 0 began"
        else:
            job.wait_for(lambda t=target: job.steps() >= t, f"step {target}")
            time.sleep(chance.uniform(0, 0.3))
            where = f"at step {job.steps()}"
        way = "by scontrol requeue" if chance.random() < 0.25 else "by a job that comes first"
        WAYS[way](job)
        restarts = str(number + 1)
        job.wait_for(lambda r=restarts: job.record()["Restarts"] == r, f"restart {restarts}")
        yield f"{job.stage}, preemption {restarts} of {times}: {where}, {way}"


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print at once: these tests take minutes."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="", flush=True)

    return say


def test_preempted_20_times_losses_and_weights_are_those_of_an_undisturbed_training(
    slurm_box: SlurmBox, house: Path, undisturbed: Path, tell: Callable[[str], None]
) -> None:
    seed = int(os.environ.get("CODEIO_TEST_SEED", time.time()))
    chance = random.Random(seed)
    tell(f"random moments from CODEIO_TEST_SEED={seed}")
    run, counted = new_run(house, "preempted"), 0
    for stage, times in TIMES.items():
        job = Job(slurm_box, house, run, stage)
        job.submit("box")
        for line in preempt(job, times, STEPS[stage], chance):
            tell(line)
        record = job.wait()
        assert (record["JobState"], record["Restarts"]) == ("COMPLETED", str(times)), job.log()
        counted += int(record["Restarts"])
        begun = re.findall(rf"{stage}: {STEPS[stage]} steps, from (step \d+|models/\w+)", job.log())
        tell(f"{stage} went on from {', '.join(begun[1:])}")
        assert any(word.startswith("step") for word in begun), job.log()
    assert counted == 20
    same_training(run, undisturbed)
    tell(f"{counted} preemptions: the same {sum(STEPS.values())} losses, and the same weights after each stage\n")


def same_training(run: Path, other: Path) -> None:
    for stage, steps in STEPS.items():
        ours, theirs = metrics(run, stage), metrics(other, stage)
        differing = [line for line, expected in zip(ours, theirs, strict=True) if line != expected]
        assert not differing, f"{stage}: {len(differing)} of {steps} lines differ, the first: {differing[0]}"
        weights = Path("models") / stage / "model.safetensors"
        assert (run / weights).read_bytes() == (other / weights).read_bytes(), stage
    validation = Path("train") / "stage1" / "validation.jsonl"
    measured = (run / validation).read_text(encoding="utf-8").splitlines()  # not where a notice came meanwhile
    assert measured and set(measured) <= set((other / validation).read_text(encoding="utf-8").splitlines())


def test_from_2_to_4_to_2_ranks_batches_are_the_same_and_losses_within_the_tolerance(
    slurm_box: SlurmBox, house: Path, undisturbed: Path, tell: Callable[[str], None]
) -> None:
    run = new_run(house, "resized")
    job = Job(slurm_box, house, run, "stage1")
    for nodes, until in ((1, STEPS["stage1"] // 3), (2, 2 * STEPS["stage1"] // 3), (1, None)):
        job.submit(str(house / f"{nodes}-nodes.yaml"))
        if until is not None:
            job.wait_for(lambda step=until: job.steps() >= step, f"step {until}")
            slurm_box.run(["scancel", "--batch", "--signal=USR1", job.id])
        record = job.wait()
        expected = ("COMPLETED", "0:0") if until is None else ("FAILED", "85:0")
        assert (record["JobState"], record["ExitCode"]) == expected, job.log()
        begun = re.search(r"stage1: \d+ steps, from (step \d+|models/untrained).*, (\d) ranks", job.log())
        assert begun and int(begun.group(2)) == 2 * nodes, job.log()
        tell(f"{begun.group(2)} ranks from {begun.group(1)}, to step {job.steps()}")
    worst = max(map(difference, metrics(run, "stage1"), metrics(undisturbed, "stage1")))
    assert worst <= TOLERANCE
    tell(f"largest relative difference of a loss: {worst:.2g} (tolerance {TOLERANCE:g})\n")


def difference(line: dict[str, Any], expected: dict[str, Any]) -> float:
    """Of the losses, relative; the batches must be the same."""
    batch = ("step", "lr", "samples", "tokens", "trained_tokens")
    assert [line[key] for key in batch] == [expected[key] for key in batch]
    ours, theirs = float.fromhex(line["loss"]), float.fromhex(expected["loss"])
    assert math.isfinite(ours)
    return abs(ours - theirs) / abs(theirs)
