"""Everything that ends tasks on a cluster, done to one build: the dataset is the same, nothing is published twice, and
what ended each attempt is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codeio_hpc.launch.attempts import Attempt, read_attempts
from tests.conftest import CONFIG, dataset_bytes

from .conftest import BOX, ROOT, SlurmBox, a_box

CODEIO = [sys.executable, "-m", "codeio_hpc"]

SLOW = '''def weigh_{i}(number: int, text: str) -> int:
    """Weigh a text by a number, slowly."""
    total = number
    for step in range({steps}):
        total = (total * {factor} + len(text)) % 1_000_003
    return total


def shorten_{i}(words: list[str], most: int) -> list[str]:
    """The words that are not longer than {least} and most together."""
    kept = []
    for word in words:
        if len(word) <= {least} + most % 7:
            kept.append(word)
    return kept
'''


SAID = {
    "preempted": r"CANCELLED AT \S+ DUE TO PREEMPTION",
    "requeued": r"CANCELLED AT \S+ DUE TO JOB REQUEUE",
    "time limit": r"ends: exit code 85|== state saved; starting again|CANCELLED AT \S+ DUE TO TIME LIMIT",
    "killed": r"== attempt \d+ ends: exit code 137 \(killed by SIGKILL\)",
    "node": "was lost",
}
"""The lines that docs/cluster.md shows."""


@pytest.fixture(scope="module")
def box() -> Iterator[SlurmBox]:
    """A cluster of this file's own: nodes are lost here."""
    with a_box() as box:
        yield box


def make_house(folder: Path, files: int, tasks: int) -> Path:
    """The project's folder as a user has it, and a configuration whose shards take a while, on any machine the same."""
    steps = steps_in(0.01)
    for name in ("slurm", "configs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "src").mkdir()
    for i in range(files):
        text = SLOW.format(i=i, steps=steps + 37 * i, factor=31 + i, least=i % 5 + 2)
        (folder / "src" / f"f{i:03d}.py").write_text(text, encoding="utf-8")
    config = re.sub(r"recipe: .*", f"recipe: {ROOT}/configs/models/tiny.yaml", CONFIG)
    config = re.sub(r"path: \S+,", f"path: {folder}/src,", config).replace("pairs: 4", "pairs: 8")
    (folder / "slow.yaml").write_text(config + f"launch: {{tasks: {tasks}, workers: 2}}\n", encoding="utf-8")
    return folder


def steps_in(seconds: float) -> int:
    """How many steps of a slow function this machine makes in that time."""
    space: dict[str, Callable[[int, str], int]] = {}
    exec(SLOW.format(i=0, steps=100_000, factor=31, least=2), space)
    begun = time.perf_counter()
    space["weigh_0"](1, "word")
    return int(100_000 * seconds / (time.perf_counter() - begun))


class Watch(threading.Thread):
    """Notes which file each shard is: one that is published twice becomes another file."""

    def __init__(self, stages: Path) -> None:
        super().__init__(daemon=True)
        self._stages, self._seen, self.twice = stages, dict[str, int](), list[str]()
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.3):
            self.look()

    def look(self) -> None:
        for folder in self._stages.glob("[0-9][0-9]-*"):
            for entry in os.scandir(folder):
                if entry.name.startswith("part-") and self._seen.setdefault(entry.path, entry.inode()) != entry.inode():
                    self.twice.append(entry.path)

    def end(self) -> None:
        self._end.set()
        self.join()
        self.look()


@dataclass
class Drill:
    """Faults for a run's attempts, one after the other, and what each is expected to be called."""

    box: SlurmBox
    run: Path
    expected: dict[str, str] = field(default_factory=dict)
    hit: Counter[str] = field(default_factory=Counter)
    choosing: threading.Lock = field(default_factory=threading.Lock)

    def attempts(self) -> dict[str, Attempt]:
        return {attempt.name: attempt for attempt in read_attempts(self.run)}

    def victim(self, cause: str) -> Attempt:
        """An attempt of the long step that is at work; from then on it is expected to end for this cause."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with self.choosing:
                found = self.attempts()
                latest = {(a.work, a.task): a.restart for a in sorted(found.values(), key=lambda a: a.restart)}
                for attempt in found.values():
                    newest = latest[attempt.work, attempt.task] == attempt.restart
                    lives = attempt.cause is None and time.time() - attempt.saved < 20 and attempt.stages
                    if newest and lives and attempt.step == 3 and attempt.name not in self.expected:
                        self.expected[attempt.name] = cause
                        return attempt
            time.sleep(0.3)
        raise AssertionError("no task was at work for two minutes")

    def inflict(self, cause: str, how: Callable[[Attempt], object]) -> Attempt:
        """Do it to some attempt, and again to another if that one had ended before it was hit."""
        while True:
            attempt = self.victim(cause)
            if how(attempt) is not False and self.was_hit(attempt, cause):
                self.hit[cause] += 1
                return attempt
            del self.expected[attempt.name]

    def was_hit(self, attempt: Attempt, cause: str) -> bool:
        """Whether it was ended before it was done. A lost node's task may finish, and is started again still."""
        deadline = time.monotonic() + 300  # a lost node's task may queue for another
        while time.monotonic() < deadline:
            found = self.attempts()
            now = found[attempt.name]
            if any(a.task == now.task and a.work == now.work and a.restart > now.restart for a in found.values()):
                return True
            if cause != "node" and now.cause is not None:
                return now.cause != "done"
            if cause != "node" and self.log_ends(now):
                return True
            time.sleep(0.3)
        raise AssertionError(f"{attempt.name} goes on, though its end was to be: {cause}")

    def log_ends(self, attempt: Attempt) -> bool:
        log = (self.run / str(attempt.log)).read_text(encoding="utf-8", errors="replace")
        return f"== attempt {attempt.restart} ends" in log

    # -- the faults

    def preempt(self, attempt: Attempt) -> None:
        rival = ["-p", "cpu", "--exclusive", f"--nodelist={attempt.host}", "-o", "/dev/null", "--wrap=sleep 1"]
        self.box.sbatch(*rival)

    def requeue(self, attempt: Attempt) -> None:
        self.box.run(["scontrol", "requeue", str(attempt.job)], check=False)

    def shorten(self, attempt: Attempt) -> None:
        self.box.run(["scontrol", "update", f"jobid={attempt.job}", "timelimit=1"], check=False)

    def reach_limit(self) -> None:
        job = self.inflict("time limit", self.shorten).job
        self.box.run(["scontrol", "update", f"jobid={job}", "timelimit=30"], check=False)  # for its next start

    def kill(self, attempt: Attempt) -> None:
        self.box.run(["kill", "-9", str(attempt.pid)], check=False)

    def lose_node(self, attempt: Attempt) -> bool:
        """Kill slurmd under the task, which goes on. It pauses until the controller has noticed: a job that ends before
        that has ended well. False: it had ended already."""
        paused = self.box.run(["kill", "-STOP", str(attempt.pid)], check=False).returncode == 0
        if not paused or self.attempts()[attempt.name].cause is not None:
            self.box.run(["kill", "-CONT", str(attempt.pid)], check=False)
            return False
        subprocess.run([BOX, "break-node", self.box.folder, attempt.host], check=True, timeout=30)
        self.box.run(["bash", "-c", f"until sinfo -hN -n {attempt.host} -o %T | grep -q down; do sleep 0.5; done"])
        self.box.run(["kill", "-CONT", str(attempt.pid)])
        return True

    def lose_and_mend(self) -> None:
        node = self.inflict("node", self.lose_node).host
        subprocess.run([BOX, "mend-node", self.box.folder, node], check=True, timeout=30)

    def restart_controller(self) -> None:
        subprocess.run([BOX, "restart-controller", self.box.folder], check=True, timeout=60)


@pytest.mark.parametrize(
    ("files", "tasks", "preemptions", "requeues", "limits", "losses", "kills"),
    [(48, 4, 2, 1, 1, 1, 1), pytest.param(480, 16, 20, 5, 2, 2, 3, marks=pytest.mark.long)],
)
def test_a_build_under_fire_gives_the_undisturbed_dataset(
    box: SlurmBox,
    tmp_path: Path,
    files: int,
    tasks: int,
    preemptions: int,
    requeues: int,
    limits: int,
    losses: int,
    kills: int,
) -> None:
    house = make_house(tmp_path, files, tasks)
    run = house / "runs" / "fire"
    command = [*CODEIO, "build", "slow.yaml", "--run", str(run), "--site", "box"]
    box.run(command, cwd=house)
    watch = Watch(run / "stages")
    watch.start()
    drill = Drill(box, run)
    # several at the same time, on different nodes; node losses one after the other
    with ThreadPoolExecutor(3) as pool:
        lost = pool.submit(lambda: [drill.lose_and_mend() for _ in range(losses)])
        others = [pool.submit(drill.reach_limit) for _ in range(limits)]
        for number in range(max(preemptions, requeues, kills)):
            for count, cause, how in (
                (preemptions, "preempted", drill.preempt),
                (requeues, "requeued", drill.requeue),
                (kills, "killed", drill.kill),
            ):
                if number < count:
                    others.append(pool.submit(drill.inflict, cause, how))
        drill.restart_controller()
        for future in (lost, *others):
            future.result()
    result = box.run([*command, "--wait", "--json"], cwd=house, timeout=900)
    watch.end()
    status = json.loads(result.stdout)
    assert status["state"] == "complete"
    assert dict(drill.hit) == {
        "node": losses,
        "time limit": limits,
        "preempted": preemptions,
        "requeued": requeues,
        "killed": kills,
    }
    told = endings(box, house, run)
    assert {name: told.get(name, ("done", ""))[0] for name in drill.expected} == drill.expected
    for name, cause in drill.expected.items():
        assert re.search(SAID[cause], told[name][1]), (name, told[name])
    assert not watch.twice
    subprocess.run([*CODEIO, "build", "slow.yaml", "--run", "runs/calm"], cwd=house, check=True, capture_output=True)
    assert dataset_bytes(run) == dataset_bytes(house / "runs" / "calm")


def endings(box: SlurmBox, house: Path, run: Path) -> dict[str, tuple[str, str]]:
    """Attempt -> why it ended and the line that says so, of all that did not end well, as the rounds tell."""
    wait_until_idle(box)
    box.run([*CODEIO, "pack", str(run)], cwd=house)
    told: dict[str, tuple[str, str]] = {}
    for path in run.glob("logs/*/round.json"):
        ends = json.loads(path.read_text(encoding="utf-8"))["endings"]
        told |= {name: (cause, says) for name, (cause, says) in ends.items()}
    return told


def wait_until_idle(box: SlurmBox) -> None:
    deadline = time.monotonic() + 60
    while box.squeue():
        assert time.monotonic() < deadline, box.squeue()
        time.sleep(0.5)
