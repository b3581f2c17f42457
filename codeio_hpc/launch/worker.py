"""The worker: one task takes its shards through the stages of one step.

The same code runs in this process, in a local worker process and in an element of a job array. A published shard is
never redone; whatever ends the worker, the next attempt continues behind the last published shard.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeio_hpc.errors import UserError
from codeio_hpc.launch.attempts import OF_NO_SHARD, Attempt, Failure, StageTotals, start_attempt
from codeio_hpc.launch.notice import SAVED, Notice
from codeio_hpc.launch.plan import Place, Step, steps
from codeio_hpc.launch.reuse import Reuse, merged
from codeio_hpc.launch.rules import LAST_SECONDS, fits
from codeio_hpc.launch.run import SOURCES_STAGE, Run, open_run, refuse_other_code
from codeio_hpc.stages.base import Context, GatherStage, Rejection
from codeio_hpc.tables import DamagedShardError, Row
from codeio_hpc.tables.shards import part_path, publish_shard, read_footer, read_shard

if TYPE_CHECKING:
    from codeio_hpc.sandbox import Pool

_LOOK_EVERY = 1.0

_UNFIT = (
    "does not fit into the time limit: raise launch.task_time (and the site's resources.cpu.time, if that is less), or"
    " build with a lower collect.files_per_shard (of samples: imports.samples_per_shard)"
)


class AccountError(Exception):
    """A stage lost or invented rows: input ids and output parents do not add up."""


class SupersededError(Exception):
    """SLURM lost sight of this node, and has started the task anew elsewhere."""


@dataclass
class Workbench:
    """What a worker keeps from shard to shard: its sandboxes."""

    run: Run
    attempt: Attempt
    stack: ExitStack
    pools: dict[int, Pool] = field(default_factory=dict)
    _look_again: float = 0.0

    def refuse_to_compete(self) -> None:
        """To be called often, row by row: two copies of a task would pay for the same answers twice, into the same
        journal. Looks every :data:`_LOOK_EVERY` seconds at most.

        Raises:
            SupersededError: there is another.
        """
        if time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + _LOOK_EVERY
            if self.attempt.is_superseded(self.run.folder):
                raise SupersededError

    @cached_property
    def reuse(self) -> Reuse:
        """Earlier runs that rows may be taken from."""
        return Reuse.of(self.run)

    def pool(self, hash_seed: int) -> Pool:
        """The sandbox under this hash seed, started at first use."""
        if hash_seed not in self.pools:
            from codeio_hpc.sandbox import Limits, Pool

            settings = self.run.config.sample
            limits = Limits(cpu_seconds=settings.most_cpu_seconds, memory_bytes=settings.memory_mb * 2**20)
            pool = Pool(limits=limits, minimum=self.run.config.sandbox.minimum, hash_seed=hash_seed)
            self.pools[hash_seed] = self.stack.enter_context(pool)
        return self.pools[hash_seed]


@dataclass(frozen=True)
class Task:
    """The work of one start of a task, whoever starts it: this process, a local process, or an element of an array."""

    run: Path
    step: int
    work: str
    """Which round of which step it belongs to."""
    number: int
    shards: tuple[int, ...]


def work(task: Task) -> None:
    """Do one task, leaving a record of the attempt.

    A stage that raises costs its shard, not the task: the failure is recorded and the next shard is taken up.

    Raises:
        SystemExit: the worker was told to stop, or what is left does not fit its time limit; code 85. Code 1 if not
            even one stage of a shard fits: to start again would not help.
    """
    run = open_run(task.run)
    attempt = start_attempt(run.folder, task.work, task.number, task.step)
    try:
        refuse_other_code(run)
        step = steps(run)[task.step]
        with _heeding_signals(attempt) as notice, ExitStack() as stack:
            cause = _work_on_shards(Workbench(run, attempt, stack), step, task.shards, notice)
    except (SystemExit, KeyboardInterrupt):
        unfit = attempt.cause == "time limit" and attempt.shard is not None and not attempt.stages
        if unfit:
            attempt.failures.append(Failure(steps(run)[task.step].name, attempt.shard or 0, _UNFIT))
        attempt.finish(run.folder, attempt.cause or "interrupted")
        if unfit:
            print(f"codeio: shard {attempt.shard} {_UNFIT}", file=sys.stderr)
            sys.exit(1)
        raise
    except UserError as error:
        attempt.failures.append(Failure(task.work, OF_NO_SHARD, str(error)))
        attempt.finish(run.folder, "configuration")
        raise
    attempt.finish(run.folder, cause)
    if cause == "time limit":
        sys.exit(SAVED)


@contextmanager
def _heeding_signals(attempt: Attempt) -> Iterator[Notice | None]:
    """End by SystemExit when told to stop, so that sandboxes are closed and the attempt's record says why.

    After the warning before a time limit there are still minutes, in which the shard at hand may be finished. Any other
    signal may be followed by SIGKILL at once.
    """

    def heard(notice: Notice) -> None:
        first, attempt.signal = attempt.signal is None, notice.received
        at_limit = notice.is_for_the_time_limit()
        attempt.cause = "time limit" if at_limit else "interrupted"
        if notice.received == "SIGINT":
            raise KeyboardInterrupt
        if at_limit and first and notice.seconds_left() > LAST_SECONDS:
            signal.setitimer(signal.ITIMER_REAL, notice.seconds_left() - LAST_SECONDS)
        else:
            sys.exit(SAVED)

    if threading.current_thread() is not threading.main_thread():  # whoever runs us there handles signals
        yield None
        return
    alarm = signal.signal(signal.SIGALRM, lambda number, frame: sys.exit(SAVED))
    notice = Notice(heard)
    try:
        yield notice
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        notice.restore()
        signal.signal(signal.SIGALRM, alarm)


def _work_on_shards(workbench: Workbench, step: Step, shards: Sequence[int], notice: Notice | None) -> str:
    """Why it ended. A shard that would probably not be finished in time is not begun."""
    attempt, longest = workbench.attempt, 0.0
    for shard in shards:
        if notice is not None and (notice.received or not fits(notice.seconds_left(), longest)):
            return "time limit"
        started = time.monotonic()
        attempt.shard = shard
        try:
            workbench.refuse_to_compete()
            _work_on_shard(workbench, step, shard, attempt)
        except SupersededError:
            return "superseded"
        longest = max(longest, time.monotonic() - started)
    return "error" if attempt.failures else "done"


def _work_on_shard(workbench: Workbench, step: Step, shard: int, attempt: Attempt) -> None:
    """Take a shard through the stages of a step, again after each part that was found damaged on the way."""
    for _ in range(len(step.places) + 1):
        stopped_at = _take_through(workbench, step, shard, attempt)
        attempt.keep(workbench.run.folder)
        if stopped_at in (None, step.places[0]):
            return  # done or failed; or damaged is what the step before made, which that step makes again


def _take_through(workbench: Workbench, step: Step, shard: int, attempt: Attempt) -> Place | None:
    """The place whose input was damaged, and has been removed, if one was. What a stage raises costs its shard only."""
    for place in step.places:
        started = (time.monotonic(), _cpu_seconds())
        try:
            record = _sketch(workbench, place, shard) if step.kind == "sketch" else _publish(workbench, place, shard)
        except (UserError, SupersededError):
            raise  # a wrong setting will not be right for the next shard either
        except DamagedShardError as error:
            if place.input_folder.name == SOURCES_STAGE:  # nothing can make it again
                attempt.failures.append(_failure(place, shard, error))
                return None
            part_path(place.input_folder, shard).unlink(missing_ok=True)
            attempt.damaged.append(_failure(place, shard, error))
            return place
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            attempt.failures.append(_failure(place, shard, error))
            return None
        if record is not None:
            record.seconds = record.longest = time.monotonic() - started[0]
            record.cpu_seconds = _cpu_seconds() - started[1]
            name = f"{place.stage.name}-sketch" if step.kind == "sketch" else place.stage.name
            attempt.totals(name).add(record)
            attempt.isolation = attempt.isolation or _isolation(workbench)
            attempt.keep(workbench.run.folder)
    return None


def _failure(place: Place, shard: int, error: Exception) -> Failure:
    return Failure(place.stage.name, shard, f"{type(error).__name__}: {error}")


def _isolation(workbench: Workbench) -> str | None:
    return next((pool.isolation for pool in workbench.pools.values()), None)


def _cpu_seconds() -> float:
    """CPU time of this process and of all below it: that of a sandbox is on no account of ours before it has ended."""
    times = os.times()
    ticks = sum(map(_ticks, _descendants(os.getpid())))
    return times.user + times.system + times.children_user + times.children_system + ticks / os.sysconf("SC_CLK_TCK")


def _descendants(process: int) -> Iterator[int]:
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            for child in map(int, listed.read_text(encoding="ascii").split()):
                yield child
                yield from _descendants(child)


def _ticks(process: int) -> int:
    """Of a process and of those of its children that have ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def _context(workbench: Workbench, place: Place, shard: int) -> Context:
    return Context(
        config=workbench.run.config,
        stage=place.stage.name,
        shard=shard,
        pool=workbench.pool,
        journal=place.folder / f"journal-{shard:05d}.jsonl",
    )


def _sketch(workbench: Workbench, place: Place, shard: int) -> StageTotals | None:
    if place.read_sketch(shard) is not None:
        return None
    stage = place.stage
    assert isinstance(stage, GatherStage)
    source = part_path(place.input_folder, shard)
    rows = read_shard(source)
    footer = read_footer(source)
    assert footer is not None
    place.write_sketch(shard, footer.checksum, stage.sketch(rows, _context(workbench, place, shard)))
    return StageTotals(shards=1, rows_in=len(rows))


def _publish(workbench: Workbench, place: Place, shard: int) -> StageTotals | None:
    """Take one shard through one stage; None if it was published already."""
    if place.is_done(shard):
        return None
    identity = place.identity(shard)
    if identity is None:
        raise RuntimeError(f"the input of stage {place.stage.name}, shard {shard}, is not published")
    rows = read_shard(part_path(place.input_folder, shard))
    context = _context(workbench, place, shard)
    known = workbench.reuse.known(place, rows)
    new = [row for row in rows if row[place.stage.input.id] not in known]
    results = _run_stage(place, new, context)
    if known:
        context.counts["reused"] = len(known)
        results = merged(place, rows, known, results)
    results = _uncontested(workbench, results)
    kept, rejected = settle_account(place.stage.input.id, place.stage.parent, place.stage.name, rows, results)
    if publish_shard(place.folder, identity, kept, rejected) is None:
        return StageTotals(lost=1)
    return StageTotals(
        shards=1,
        rows_in=len(rows),
        rows_out=len(kept),
        rejected=len(rejected),
        counts=dict(sorted(context.counts.items())),
    )


def _uncontested(workbench: Workbench, results: Iterable[Row | Rejection]) -> Iterator[Row | Rejection]:
    for result in results:
        workbench.refuse_to_compete()
        yield result


def _run_stage(place: Place, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
    stage = place.stage
    if isinstance(stage, GatherStage):
        decision, sketch = place.read_decision(), place.read_sketch(context.shard)
        if decision is None or sketch is None:
            raise RuntimeError(f"stage {stage.name}, shard {context.shard}: its sketch or the decision is not there")
        return stage.apply(rows, sketch["data"], decision["data"], context)
    return stage.run(rows, context)


def settle_account(
    input_id: str, parent: str, stage: str, rows: Sequence[Row], results: Iterable[Row | Rejection]
) -> tuple[list[Row], list[Row]]:
    """Split a stage's results into output rows and rejected rows, and check that every input row is accounted for.

    Raises:
        AccountError: an input row has neither output nor rejection, or both, or two rejections; or a result names a
            parent that is no input row.
    """
    languages = {row[input_id]: row["language"] for row in rows}
    if len(languages) != len(rows):
        raise AccountError(f"stage {stage}: two input rows have the same id")
    kept: list[Row] = []
    rejected: list[Row] = []
    own: Counter[str] = Counter()
    parents: set[str] = set()
    for result in results:
        if isinstance(result, Rejection):
            owners = [result.row_id if result.parent_id is None else result.parent_id]
            own[result.row_id] += result.parent_id is None
            rejected.append(_rejected_row(result, stage, languages.get(owners[0], "")))
        else:
            owners = result[parent] if isinstance(result[parent], list) else [result[parent]]
            parents.update(owners)
            kept.append(result)
        for owner in owners:
            if owner not in languages:
                raise AccountError(f"stage {stage}: a result names '{owner}', which is not an input row")
    for row_id in languages:
        if (row_id in parents) + own[row_id] != 1:
            state = "has no output row and no rejection" if not own[row_id] else "is accounted for more than once"
            raise AccountError(f"stage {stage}: input row '{row_id}' {state}")
    return kept, rejected


def _rejected_row(rejection: Rejection, stage: str, language: str) -> dict[str, Any]:
    return {
        "row_id": rejection.row_id,
        "parent_id": rejection.parent_id,
        "stage": stage,
        "reason": rejection.reason,
        "detail": rejection.detail[:2000],
        "language": language,
    }
