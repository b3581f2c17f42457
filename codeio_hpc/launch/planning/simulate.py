"""A build that is only calculated: the engine's own packing and its rules, on a cluster whose faults a seed draws.

Packing, splitting, measuring costs, leaving out nodes and giving up are the functions that a real build calls; of the
worker and of SLURM there is only what they cost in time. An attempt is two events, so 100,000 shards take seconds.

Left out, because no time worth planning for goes there: shards whose code raises, a queue that is full, a warning that
comes early, and the pause that keeps to ``max_submissions_per_minute``.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from codeio_hpc.launch.attempts import Attempt, Failure, StageTotals
from codeio_hpc.launch.causes import HARMLESS, Ending, Judged, bad_nodes
from codeio_hpc.launch.jobs import WARNING_SECONDS
from codeio_hpc.launch.packing import ArrayPart, cost_of_step, pack, split
from codeio_hpc.launch.planning.nodes import Assumed, Death, Node, Nodes
from codeio_hpc.launch.rounds import work_name
from codeio_hpc.launch.rules import LAST_SECONDS, fits, is_hopeless, rounds_in_vain
from codeio_hpc.launch.sites.flags import task_minutes

if TYPE_CHECKING:
    from codeio_hpc.config.run import LaunchSettings
    from codeio_hpc.config.site import Site


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
    applied = _applied(assumed, launch, site)
    at_once = site.max_tasks_at_once if site else max(1, launch.workers)
    course = _Course(launch, site, applied, at_once, Nodes(applied, at_once, Random(f"{seed} faults")))
    course.ask_for_queue()
    try:
        for step, load in enumerate(loads):
            course.left = _work_of(load, shards, applied.spread, Random(f"{seed} step {step}"))
            _do_step(course, step, load, shards)
    except _StopsError as error:
        course.outcome.failed = str(error)
    course.outcome.seconds = course.now
    return course.outcome


def _applied(assumed: Assumed, launch: LaunchSettings, site: Site | None) -> Assumed:
    """What of it applies there."""
    if site is None:
        here = {"nodes": 1, "tasks_per_node": max(1, launch.workers), "queue_seconds": 0.0, "steer_seconds": 0.0}
        return assumed.calm().model_copy(update=here)
    return assumed if site.resources.cpu.preemption.mode != "off" else assumed.model_copy(update={"preemptions": 0.0})


_MOST_STARTS = 300
"""Of one task: SLURM would go on for ever; a plan says that it does."""


class _StopsError(Exception):
    """The build stops before its end; says why."""


Work = dict[int, deque[tuple[str, float]]]
"""Shard -> stages that it has yet to go through, with the seconds that each takes."""


def _work_of(load: StepLoad, shards: int, spread: float, chance: Random) -> Work:
    work = {}
    for shard in range(shards):
        factor = math.exp(spread * chance.gauss(0, 1) - spread**2 / 2)  # 1 on average
        work[shard] = deque((stage, seconds * factor) for stage, seconds in load.stages.items())
    return work


@dataclass
class _Course:
    """How far the build is: what rounds hand on to each other. Events are functions that are due at a time."""

    launch: LaunchSettings
    site: Site | None
    assumed: Assumed
    at_once: int
    nodes: Nodes
    outcome: Outcome = field(default_factory=Outcome)
    left: Work = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)
    now: float = 0.0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _number: Iterator[int] = field(default_factory=count)

    def due(self, seconds: float, happen: Callable[[], None]) -> None:
        """Let something happen in so many seconds."""
        heapq.heappush(self._events, (self.now + seconds, next(self._number), happen))

    def go_on(self) -> None:
        """Let the next event happen; what fell due between two rounds happens at the next one's start."""
        when, _, happen = heapq.heappop(self._events)
        self.now = max(self.now, when)
        happen()

    def attempts(self, step: int) -> Iterator[Attempt]:
        """At a step, so far."""
        return (each.attempt for each in self.judged if each.attempt.step == step)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is going to happen by itself."""
        return not self._events

    def ask_for_queue(self) -> None:
        """Whoever submits looks at the queue first."""
        if self.site is not None:
            self.outcome.calls["squeue"] += 1


def _do_step(course: _Course, step: int, load: StepLoad, shards: int) -> None:
    """Send out rounds until nothing of the step is left, or the rules of ``advance`` and of submission stop it."""
    before: list[int] = []
    while course.left:
        missing, attempts = sorted(course.left), course.launch.attempts
        failures = Counter(failure.shard for attempt in course.attempts(step) for failure in attempt.failures)
        for shard, times in sorted(failures.items()):
            if shard in course.left and is_hopeless(times, attempts):
                raise _StopsError(
                    f"step {load.name}, shard {shard} failed {times} times: it does not fit into the time limit"
                )
        if rounds := rounds_in_vain(before, len(missing), attempts):
            raise _StopsError(f"step {load.name}: {len(missing)} shards are still missing after {rounds} rounds")
        before.append(len(missing))
        _do_round(course, step, load, missing)
        takes = course.assumed.steer_seconds + course.assumed.steer_shard_seconds * shards
        course.outcome.steering += takes
        course.now += course.assumed.queue_seconds + takes
        course.ask_for_queue()


def _do_round(course: _Course, step: int, load: StepLoad, missing: list[int]) -> None:
    """Pack, submit and carry out, as ``plan_round`` of submission and ``build_locally`` do."""
    launch, site = course.launch, course.site
    if site is None:
        tasks = pack(missing, lambda shard: 1.0, math.inf, course.at_once)
        parts, expected, exclude = [ArrayPart(0, len(tasks), len(tasks), None)], 0.0, list[str]()
    else:
        seconds = cost_of_step(course.attempts(step), step, next(iter(load.stages)), launch.shard_seconds).of(load.rows)
        tasks = pack(missing, lambda shard: seconds, 60.0 * launch.task_lasts, launch.tasks)
        parts = split(len(tasks), site.max_array_size, site.max_tasks_at_once)
        expected, exclude = max(map(len, tasks)) * seconds, bad_nodes(course.judged)
        course.outcome.calls["sbatch"] += len(parts) + 1  # and the job that steers on
    record = RoundOutcome(step, load.name, course.now, len(missing), len(tasks), len(parts), expected, exclude)
    course.outcome.rounds.append(record)
    _Arrays(course, record, load.rows, tasks, parts).run()
    record.ended, record.left = course.now, len(course.left)


@dataclass(frozen=True)
class _Element:
    """A task on its way through the queue."""

    part: int
    """The array that it belongs to."""
    task: int
    restart: int


class _Arrays:
    """The job arrays of a round.

    Args:
        rows: of a shard.
    """

    def __init__(
        self,
        course: _Course,
        record: RoundOutcome,
        rows: int,
        tasks: Sequence[Sequence[int]],
        parts: Sequence[ArrayPart],
    ) -> None:
        self._course, self._record, self._rows, self._tasks, self._parts = course, record, rows, tasks, parts
        self._waiting: list[deque[_Element]] = [deque() for _ in parts]
        self._at_work = [0] * len(parts)
        self._open = [part.tasks for part in parts]
        self._troubled: set[int] = set()

    def run(self) -> None:
        """Until all elements have ended."""
        self._submit_after(None)
        while any(self._open):
            self._course.go_on()
            self._start_what_can()
        self._record.troubled = len(self._troubled)

    def _submit_after(self, before: int | None) -> None:
        """The arrays that wait for this one may start, after their time in the queue."""
        for index, part in enumerate(self._parts):
            if part.after == before:
                elements = [_Element(index, part.first + number, 0) for number in range(part.tasks)]
                self._course.due(self._course.assumed.queue_seconds, partial(self._waiting[index].extend, elements))

    def _start_what_can(self) -> None:
        course = self._course
        for index, waiting in enumerate(self._waiting):
            while waiting and self._at_work[index] < self._parts[index].at_once:
                node = course.nodes.take(course.now, self._record.exclude)
                if node is None:
                    if course.is_idle:  # everything that is free is down
                        course.due(course.nodes.next_repair(course.now) - course.now, lambda: None)
                    return
                self._start(waiting.popleft(), node)

    def _start(self, element: _Element, node: Node) -> None:
        course, record = self._course, self._record
        work, job = work_name(record.step, len(course.outcome.rounds)), f"{element.part}_{element.task}"
        attempt = Attempt(work, element.task, element.restart, record.step, node.name, 0, job, log=None, start="")
        lasted, cause, place_taken = self._work(self._tasks[element.task], node, attempt)
        course.judged.append(Judged(attempt, Ending(cause)))
        course.outcome.causes[cause] += 1
        course.outcome.running += [(course.now, 1), (course.now + lasted, -1)]
        record.attempts += 1
        record.hosts.add(node.name)
        record.longest = max(record.longest, lasted)
        self._at_work[element.part] += 1
        course.due(lasted, partial(self._end, element, attempt, cause))
        course.due(lasted + place_taken, partial(course.nodes.give_back, node))

    def _end(self, element: _Element, attempt: Attempt, cause: str) -> None:
        """An attempt is over: its task too, or SLURM will start it again."""
        self._at_work[element.part] -= 1
        if cause not in HARMLESS:
            self._troubled.add(element.task)
        if not attempt.failures and self._starts_again(element, cause):
            if element.restart >= _MOST_STARTS:
                raise _StopsError(f"step {self._record.name}: task {element.task} was started {_MOST_STARTS} times")
            again = _Element(element.part, element.task, element.restart + 1)
            self._course.due(self._course.assumed.requeue_seconds, partial(self._waiting[element.part].append, again))
            return
        self._open[element.part] -= 1
        if not self._open[element.part]:
            self._submit_after(element.part)

    def _starts_again(self, element: _Element, cause: str) -> bool:
        """Whether SLURM starts a task anew, as the site says; the rest of one that is not is done in a later round."""
        site = self._course.site
        if site is None or site.requeue == "none":
            return False
        if cause == "preempted":
            return site.resources.cpu.preemption.mode == "requeue"
        if cause == "time limit" and element.restart < site.max_requeues:
            self._course.outcome.calls["scontrol requeue"] += site.requeue == "self"
            return True
        return cause == "node"

    def _work(self, shards: Sequence[int], node: Node, attempt: Attempt) -> Death:
        """Take shards through the step's stages as the worker does; when and why that ends: at the last shard, because
        time is short, or as the node has it."""
        course = self._course
        limit = 60.0 * task_minutes(course.launch, course.site) if course.site else math.inf
        death = min(course.nodes.death(node, course.now), Death(limit - LAST_SECONDS, "time limit"))
        spent, longest = min(course.assumed.start_seconds, death.after), 0.0
        course.outcome.starting += spent
        for shard in shards:
            if shard not in course.left:
                continue
            if limit - spent < WARNING_SECONDS or not fits(limit - spent, longest):
                return min(death, Death(spent, "time limit"))
            begun = spent
            spent = self._take_through(shard, node, attempt, spent, death.after)
            if spent >= death.after:
                if death.cause == "time limit" and not attempt.stages:
                    attempt.failures.append(Failure(self._record.name, shard, "does not fit into the time limit"))
                return death
            longest = max(longest, spent - begun)
        return Death(spent, "done")

    def _take_through(self, shard: int, node: Node, attempt: Attempt, spent: float, dies: float) -> float:
        """Publish a shard, stage by stage; when that was done, or ``dies`` if it was not by then: the stage in hand is
        lost, and no other."""
        course, outcome = self._course, self._course.outcome
        stages = course.left[shard]
        while stages:
            stage, seconds = stages[0]
            takes = seconds * node.slowness
            if spent + takes > dies:
                outcome.lost += dies - spent
                outcome.lost_at.append((course.now + dies, dies - spent))
                return dies
            spent += takes
            stages.popleft()
            attempt.totals(stage).add(StageTotals(shards=1, seconds=takes, rows_in=self._rows))
            outcome.published += takes
            outcome.published_at.append(course.now + spent)
            outcome.done[stage, shard] += 1
            self._record.parts += 1
        del course.left[shard]
        return spent
