"""A build that is only calculated: the engine's own packing and its rules, on a cluster whose faults a seed draws.

Packing, splitting, measuring costs and leaving out nodes are the functions that a real build calls; of the worker and
of SLURM there is only what they cost in time. An attempt is two events, so 100,000 shards take seconds.

Left out, because no time worth planning for goes there: shards whose code raises, a queue that is full, a warning that
comes early, and the pause that keeps to ``max_submissions_per_minute``.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from codeio_hpc.launch.attempts import Attempt, StageTotals
from codeio_hpc.launch.causes import HARMLESS, Ending, Judged, bad_nodes
from codeio_hpc.launch.packing import ArrayPart, cost_of_step, pack, split
from codeio_hpc.launch.rounds import work_name
from codeio_hpc.launch.simulated_nodes import Assumed, Death, Node, Nodes

if TYPE_CHECKING:
    from codeio_hpc.config.run import LaunchSettings
    from codeio_hpc.config.site import Site

_LAST_SECONDS = 20.0
"""As the worker's: left before a time limit for ending in good order."""
_WARNING_SECONDS = 120.0
"""As submission's: no shard is begun once a task was warned of its time limit."""


@dataclass(frozen=True)
class StepLoad:
    """The work of one step as it really is. The planner knows of it what a real one does: what was measured so far."""

    name: str
    rows: int
    """Input rows of a shard."""
    stages: Mapping[str, float]
    """Stage -> wall seconds that a shard takes in it, on average and on a node of normal speed; in their order."""


@dataclass
class RoundOutcome:
    """One round, as it went; times in seconds since the build was started."""

    step: int
    name: str
    """Of the step."""
    submitted: float
    missing: int
    """Shards of the step that were sent out."""
    tasks: int
    arrays: int
    expected_seconds: float
    """What a task was expected to take, at most."""
    exclude: list[str]
    """Nodes that were left out."""
    ended: float = 0.0
    left: int = 0
    """Shards of the step that are still missing at its end."""
    attempts: int = 0
    hosts: set[str] = field(default_factory=set)
    """Nodes that attempts of this round ran on."""
    troubled: int = 0
    """Tasks with an attempt that did not end well: their logs are kept unpacked."""
    longest: float = 0.0
    """Seconds of the longest attempt."""
    parts: int = 0
    """Shards published, each stage counted."""


@dataclass
class Outcome:
    """A whole build; seconds are wall seconds of tasks."""

    rounds: list[RoundOutcome] = field(default_factory=list)
    seconds: float = 0.0
    """Makespan: from the command to the last job's end."""
    published: float = 0.0
    """In work that was published."""
    lost: float = 0.0
    """In work that was not: what was in hand when a task ended."""
    starting: float = 0.0
    """In starts of tasks."""
    steering: float = 0.0
    """In jobs that steer on."""
    calls: Counter[str] = field(default_factory=Counter)
    """Calls of SLURM's commands, by command."""
    causes: Counter[str] = field(default_factory=Counter)
    """How attempts ended, by cause."""
    done: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(stage, shard) -> how often it was published."""
    running: list[tuple[float, int]] = field(default_factory=list)
    """Time, and 1 for a task that starts then, -1 for one that ends."""
    published_at: list[float] = field(default_factory=list)
    """When each shard of each stage was published."""
    lost_at: list[tuple[float, float]] = field(default_factory=list)
    """When work was lost, and seconds of it."""
    failed: str | None = None
    """Why the build stopped before its end."""

    @property
    def attempts(self) -> int:
        """Starts of tasks."""
        return sum(each.attempts for each in self.rounds)

    @property
    def allocated(self) -> float:
        """All seconds of tasks and of jobs that steer on."""
        return self.published + self.lost + self.starting + self.steering


def simulate(
    loads: Sequence[StepLoad],
    shards: int,
    launch: LaunchSettings,
    site: Site | None,
    assumed: Assumed,
    seed: int = 0,
) -> Outcome:
    """The course of a build with these steps. Equal arguments give equal outcomes, and what a shard costs depends on
    seed and step only: clusters can be compared on the same work.

    Args:
        site: None: local worker processes, without scheduler and faults.
    """
    return _Build(loads, shards, launch, site, _applied(assumed, launch, site), seed).run()


def _applied(assumed: Assumed, launch: LaunchSettings, site: Site | None) -> Assumed:
    """What of it applies there."""
    if site is None:
        here = {"nodes": 1, "tasks_per_node": max(1, launch.workers), "queue_seconds": 0.0, "steer_seconds": 0.0}
        return assumed.calm().model_copy(update=here)
    return assumed if site.resources.cpu.preemption.mode != "off" else assumed.model_copy(update={"preemptions": 0.0})


@dataclass(frozen=True)
class _Element:
    """A task on its way through the queue."""

    part: int
    """The array that it belongs to."""
    task: int
    restart: int


class _Build:
    """The build's state. Events are functions that are due at a time."""

    def __init__(
        self,
        loads: Sequence[StepLoad],
        shards: int,
        launch: LaunchSettings,
        site: Site | None,
        assumed: Assumed,
        seed: int,
    ) -> None:
        self._loads, self._shards, self._launch, self._site, self._assumed = loads, shards, launch, site, assumed
        self._seed = seed
        self._outcome = Outcome()
        self._judged: list[Judged] = []
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._nodes = Nodes(assumed, self._at_once, Random(f"{seed} faults"))

    @property
    def _at_once(self) -> int:
        return self._site.max_tasks_at_once if self._site else max(1, self._launch.workers)

    def run(self) -> Outcome:
        outcome = self._outcome
        self._ask()
        self._ask()  # and again for the state that the command prints
        for number, load in enumerate(self._loads):
            self._left = self._work_of(number, load)
            before: list[int] = []
            while self._left:
                missing = sorted(self._left)
                allowed = self._launch.attempts + 1  # the rule of submission: as many rounds without progress
                if before[-allowed:] == [len(missing)] * allowed:
                    outcome.failed = f"step {load.name}: {len(missing)} shards are still missing after {allowed} rounds"
                    outcome.seconds = self._now
                    return outcome
                before.append(len(missing))
                self._round(number, load, missing)
        outcome.seconds = self._now
        return outcome

    def _work_of(self, number: int, load: StepLoad) -> dict[int, deque[tuple[str, float]]]:
        """Shard -> stages that it has yet to go through, with their seconds."""
        chance, spread = Random(f"{self._seed} step {number}"), self._assumed.spread
        work = {}
        for shard in range(self._shards):
            factor = math.exp(spread * chance.gauss(0, 1) - spread**2 / 2)  # 1 on average
            work[shard] = deque((stage, seconds * factor) for stage, seconds in load.stages.items())
        return work

    # -- a round -------------------------------------------------------------------------------------------------------

    def _round(self, number: int, load: StepLoad, missing: list[int]) -> None:
        """Pack, submit, let it run, and steer on."""
        launch, site = self._launch, self._site
        if site is None:
            tasks = pack(missing, lambda shard: 1.0, math.inf, self._at_once)
            parts, expected, exclude = [ArrayPart(0, len(tasks), len(tasks), None)], 0.0, list[str]()
        else:
            cost = cost_of_step(
                (each.attempt for each in self._judged), number, next(iter(load.stages)), launch.shard_seconds
            )
            seconds = cost.of(load.rows)
            tasks = pack(missing, lambda shard: seconds, 60.0 * launch.task_lasts, launch.tasks)
            parts = split(len(tasks), site.max_array_size, site.max_tasks_at_once)
            expected, exclude = max(map(len, tasks)) * seconds, bad_nodes(self._judged)
            self._outcome.calls["sbatch"] += len(parts) + 1  # and the job that steers on
        self._record = RoundOutcome(
            number, load.name, self._now, len(missing), len(tasks), len(parts), expected, exclude
        )
        self._outcome.rounds.append(self._record)
        self._carry_out(load, tasks, parts)
        self._record.ended, self._record.left = self._now, len(self._left)
        self._steer()

    def _steer(self) -> None:
        takes = self._assumed.steer_seconds + self._assumed.steer_shard_seconds * self._shards
        self._outcome.steering += takes
        self._now += self._assumed.queue_seconds + takes
        self._ask()

    def _ask(self) -> None:
        """Whoever submits looks at the queue first, once."""
        if self._site is not None:
            self._outcome.calls["squeue"] += 1

    def _carry_out(self, load: StepLoad, tasks: Sequence[Sequence[int]], parts: Sequence[ArrayPart]) -> None:
        """Let arrays run until all of their elements have ended."""
        self._load, self._tasks, self._parts = load, tasks, parts
        self._waiting: list[deque[_Element]] = [deque() for _ in parts]
        self._at_work = [0] * len(parts)
        self._open = [part.tasks for part in parts]
        self._troubled: set[int] = set()
        for index, part in enumerate(parts):
            if part.after is None:
                self._due(self._assumed.queue_seconds, partial(self._may_start, index))
        while any(self._open):
            when, _, happen = heapq.heappop(self._events)
            self._now = max(self._now, when)  # what fell due between two rounds happens at the next one's start
            happen()
            self._start_what_can()
        self._record.troubled = len(self._troubled)

    def _due(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._number), happen))

    def _may_start(self, index: int) -> None:
        part = self._parts[index]
        self._waiting[index].extend(_Element(index, part.first + element, 0) for element in range(part.tasks))

    def _start_what_can(self) -> None:
        for index, waiting in enumerate(self._waiting):
            while waiting and self._at_work[index] < self._parts[index].at_once:
                node = self._nodes.take(self._now, self._record.exclude)
                if node is None:
                    if not self._events:  # everything that is free is down
                        self._due(self._nodes.next_repair(self._now) - self._now, lambda: None)
                    return
                self._start(waiting.popleft(), node)

    def _start(self, element: _Element, node: Node) -> None:
        attempt = self._attempt(element, node)
        end = self._work(self._tasks[element.task], node, attempt)
        lasted, cause = end.after, end.cause
        self._judged.append(Judged(attempt, Ending(cause)))
        self._record.attempts += 1
        self._record.hosts.add(node.name)
        self._record.longest = max(self._record.longest, lasted)
        self._outcome.causes[cause] += 1
        self._outcome.running += [(self._now, 1), (self._now + lasted, -1)]
        self._at_work[element.part] += 1
        self._due(lasted, partial(self._end, element, cause))
        self._due(lasted + end.place_taken, partial(self._nodes.give_back, node))

    def _attempt(self, element: _Element, node: Node) -> Attempt:
        work = work_name(self._record.step, len(self._outcome.rounds))
        job = f"{element.part}_{element.task}"
        step = self._record.step
        return Attempt(work, element.task, element.restart, step, node.name, 0, job, log=None, start="")

    def _end(self, element: _Element, cause: str) -> None:
        """An attempt is over: its task too, or SLURM will start it again."""
        self._at_work[element.part] -= 1
        if cause not in HARMLESS:
            self._troubled.add(element.task)
        if self._starts_again(element, cause):
            again = _Element(element.part, element.task, element.restart + 1)
            self._due(self._assumed.requeue_seconds, partial(self._waiting[element.part].append, again))
            return
        self._open[element.part] -= 1
        if not self._open[element.part]:
            for index, part in enumerate(self._parts):
                if part.after == element.part:
                    self._due(self._assumed.queue_seconds, partial(self._may_start, index))

    def _starts_again(self, element: _Element, cause: str) -> bool:
        """Whether SLURM starts a task anew, as the site says; the rest of one that is not is done in a later round."""
        site = self._site
        if site is None or site.requeue == "none":
            return False
        if cause == "preempted":
            return site.resources.cpu.preemption.mode == "requeue"
        if cause == "time limit" and site.requeue == "self" and element.restart < site.max_requeues:
            self._outcome.calls["scontrol requeue"] += 1
            return True
        return cause == "node" or (cause == "time limit" and site.requeue == "slurm")

    # -- an attempt ----------------------------------------------------------------------------------------------------

    def _work(self, shards: Sequence[int], node: Node, attempt: Attempt) -> Death:
        """Take shards through the step's stages as the worker does; when and why that ends: at the last shard, because
        time is short, or as the node has it."""
        limit = 60.0 * self._launch.task_time if self._site else math.inf
        death = min(self._nodes.death(node, self._now), Death(limit - _LAST_SECONDS, "time limit"))
        spent, longest = min(self._assumed.start_seconds, death.after), 0.0
        self._outcome.starting += spent
        for shard in shards:
            if shard not in self._left:
                continue
            if limit - spent < max(longest + _LAST_SECONDS, _WARNING_SECONDS):
                return min(death, Death(spent, "time limit"))
            begun = spent
            spent = self._take_through(shard, node, attempt, spent, death.after)
            if spent >= death.after:
                return death
            longest = max(longest, spent - begun)
        return Death(spent, "done")

    def _take_through(self, shard: int, node: Node, attempt: Attempt, spent: float, dies: float) -> float:
        """Publish a shard, stage by stage; when that was done, or ``dies`` if it was not by then: the stage in hand is
        lost, and no other."""
        outcome, stages = self._outcome, self._left[shard]
        while stages:
            stage, seconds = stages[0]
            takes = seconds * node.slowness
            if spent + takes > dies:
                outcome.lost += dies - spent
                outcome.lost_at.append((self._now + dies, dies - spent))
                return dies
            spent += takes
            stages.popleft()
            attempt.totals(stage).add(StageTotals(shards=1, seconds=takes, rows_in=self._load.rows))
            outcome.published += takes
            outcome.published_at.append(self._now + spent)
            outcome.done[stage, shard] += 1
            self._record.parts += 1
        del self._left[shard]
        return spent
