"""The state of a run, derived from its files; SLURM is asked once, and only if it may have jobs of the run."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from codeio_hpc.config.run import RunConfig
from codeio_hpc.launch import slurm
from codeio_hpc.launch.causes import HARMLESS, bad_nodes
from codeio_hpc.launch.jobs import elements_at_work, jobs_at_work
from codeio_hpc.launch.plan import Place, Step, index_of, places, steps
from codeio_hpc.launch.progress import clock
from codeio_hpc.launch.rounds import RoundRecord, endings, read_rounds
from codeio_hpc.launch.run import SOURCES_STAGE, Run
from codeio_hpc.launch.trainings import training_lines, trainings
from codeio_hpc.tables.index import names_in
from codeio_hpc.tables.shards import read_footer

_BUDGET = 1.0
"""Seconds that are spent on footers that no index knows, before a count is given as a lower bound."""


@dataclass(frozen=True)
class StageStatus:
    """How far one stage is."""

    stage: str
    shards: int
    done: int
    rows: int
    rejected: int
    exact: bool = True
    """False: rows and rejected are of some of the shards only; an index is made when work is next submitted."""


@dataclass
class Budget:
    """Time that is left for reading footers."""

    until: float = field(default_factory=lambda: time.monotonic() + _BUDGET)

    @property
    def is_used_up(self) -> bool:
        """Whether no more should be read."""
        return time.monotonic() > self.until


def stage_status(run: Run, place: Place, budget: Budget) -> StageStatus:
    """Count the published shards of a stage and the rows in them."""
    totals = index_of(run, place.folder).totals()
    rows, rejected, exact = totals.rows, totals.rejected, True
    unreadable = 0
    for name in sorted(totals.unread):
        if budget.is_used_up:
            exact = False
            break
        footer = read_footer(place.folder / name)
        if footer is None:
            unreadable += 1
        else:
            rows, rejected = rows + footer.rows, rejected + footer.rejected
    done = totals.known + len(totals.unread) - unreadable
    return StageStatus(place.stage.name, run.shards, done, rows, rejected, exact)


@dataclass(frozen=True)
class Answer:
    """What SLURM said of the run's jobs."""

    jobs: list[slurm.QueuedJob] | None
    """Those in the queue; None if it did not answer."""
    silence: str | None = None
    """Why it did not."""
    asked: float = field(default_factory=time.time)
    """When, in seconds since the epoch."""


def run_status(run: Run, answer: Answer | None = None) -> dict[str, Any]:
    """Everything `codeio status` shows, as plain data; under "queue", SLURM's answer.

    Args:
        answer: an earlier one; without it SLURM is asked.
    """
    all_places = places(run)
    budget = Budget()
    stages = [stage_status(run, place, budget) for place in all_places]
    rounds = read_rounds(run)
    answer = answer or _ask(run, rounds)
    jobs = answer.jobs
    running = None if jobs is None else elements_at_work(jobs)
    judged = endings(run, running, answer.asked)
    causes = Counter(each.ending.cause for each in judged)
    troubled = [each for each in judged if each.ending.cause not in HARMLESS]
    complete = all(stage.done == stage.shards for stage in stages)
    sources = index_of(run, run.stages / SOURCES_STAGE).totals()
    files, exact = _source_files(run, sources.rows, sources.unread, budget)
    return {
        "run": str(run.folder),
        "name": run.config.name,
        "state": "complete" if complete else "incomplete",
        "files": files,
        "files_exact": exact,
        "unit": unit_of(run.config),
        "shards": run.shards,
        "stages": [asdict(stage) for stage in stages],
        "trainings": trainings(run.folder, judged),
        "attempts": dict(sorted(causes.items())),
        "troubles": [
            {
                "attempt": each.attempt.name,
                "host": each.attempt.host,
                "job": each.attempt.job,
                "cause": each.ending.cause,
                "says": each.ending.says,
                "log": each.attempt.log,
            }
            for each in troubled[-10:]
        ],
        "left_out_nodes": bad_nodes(judged),
        "round": None if complete or not rounds else _round(run, rounds[-1], jobs),
        "slurm": {
            "silence": answer.silence,
            "jobs": [asdict(job) for job in jobs or []],
            "stuck": sorted({job.job for job in jobs or [] if job.is_stuck}),
        },
        "queue": answer,
    }


def _ask(run: Run, rounds: list[RoundRecord]) -> Answer:
    if all(record.endings is not None for record in rounds):
        return Answer([])  # everything that was sent out is known to have ended
    asked = time.time()  # not later: it may take a while to answer
    try:
        return Answer(jobs_at_work(run, slurm.queue()), asked=asked)
    except slurm.SchedulerError as error:
        return Answer(None, str(error))


def unit_of(config: RunConfig) -> str:
    """What goes into the first stage, in the plural."""
    return "records" if config.samples else "source files"


def _source_files(run: Run, rows: int, unread: set[str], budget: Budget) -> tuple[int, bool]:
    """How many, and whether that is exact; otherwise it is the most that there can be."""
    for name in unread:
        if budget.is_used_up:  # all shards but the last are full
            return run.shards * run.config.rows_per_shard, False
        footer = read_footer(run.stages / SOURCES_STAGE / name)
        rows += footer.rows if footer else 0
    return rows, True


def _round(run: Run, record: RoundRecord, jobs: list[slurm.QueuedJob] | None) -> dict[str, Any]:
    """How far the round at work is."""
    step = steps(run)[record.step]
    left = _shards_left(run, step, {shard for task in record.tasks for shard in task})
    done = record.missing - left
    seconds = time.time() - record.submitted
    states = Counter[str]()
    for job in jobs or []:
        if job.job != record.steer:
            states[job.state.lower()] += 1
    return {
        "step": record.name,
        "round": record.round,
        "site": record.site,
        "tasks": sum(array.tasks for array in record.arrays),
        "elements": dict(sorted(states.items())),
        "shards": record.missing,
        "done": done,
        "seconds": round(seconds, 1),
        "seconds_left": round(seconds * left / done, 1) if done else None,
        "expected_task_seconds": round(record.expected_seconds, 1),
        "failed": record.failed,
    }


def _shards_left(run: Run, step: Step, wanted: set[int]) -> int:
    """Shards of a round without an output of the step's last stage; by names only."""
    place = step.places[-1]
    form = "sketch-{:05d}.json" if step.kind == "sketch" else "part-{:05d}.parquet"
    names = names_in(place.folder)
    return sum(form.format(shard) not in names for shard in wanted)


def status_text(status: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"run {status['name']}: {_state_text(status)}  ({status['run']})",
        f"  {'' if status['files_exact'] else '≤ '}{status['files']:,} {status['unit']} in {status['shards']:,} shards",
        f"  {'stage':<14}{'shards':>17}{'rows':>14}{'rejected':>14}",
    ]
    for stage in status["stages"]:
        shards = f"{stage['done']:,}/{stage['shards']:,}"
        least = "" if stage["exact"] else "≥ "
        rows, rejected = f"{least}{stage['rows']:,}", f"{least}{stage['rejected']:,}"
        unit = "  rows are packed sequences" if stage["stage"] == "tokenise" else ""
        lines.append(f"  {stage['stage']:<14}{shards:>17}{rows:>14}{rejected:>14}{unit}")
    lines += _much_rejected(status)
    if status["round"] is not None:
        lines += _round_lines(status["round"], status["slurm"]["silence"] is None)
    lines += training_lines(status["trainings"], status["run"])
    causes = ", ".join(f"{count:,} {cause}" for cause, count in status["attempts"].items())
    lines.append(f"  attempts: {causes or 'none'}")
    if len(status["troubles"]) > 3:
        lines.append("    of the last three that did not end well (status --json has more):")
    for trouble in status["troubles"][-3:]:
        says = f": {trouble['says'][:240]}" if trouble["says"] else ""
        lines.append(f"    {trouble['cause']}: {trouble['attempt']} on {trouble['host']}{says}")
    if status["left_out_nodes"]:
        lines.append(f"  left out: {', '.join(status['left_out_nodes'])}; each lost two attempts of this run")
    lines += _advice(status)
    return "\n".join(lines)


def _much_rejected(status: dict[str, Any]) -> list[str]:
    """Where it is said why finished samples were not taken; most are expected to be, and half is worth a warning."""
    before, lines = status["files"], []
    for stage in status["stages"]:
        if stage["stage"] in ("import", "tokenise") and before and stage["rejected"]:
            warning = "WARNING: " if 2 * stage["rejected"] >= before else ""
            what = f"{stage['stage']} rejected {stage['rejected']:,} of {before:,}"
            lines.append(f"  {warning}{what}; why: codeio rejected {status['run']}")
        before = stage["rows"]
    return lines


def _state_text(status: dict[str, Any]) -> str:
    """Of the dataset; a training that was begun and is not at its end is named, lest complete be taken for all."""
    unfinished = [each["stage"] for each in status["trainings"] if each["state"] != "finished"]
    if status["state"] != "complete" or not unfinished:
        return str(status["state"])
    return f"dataset complete, training of {' and '.join(unfinished)} not"


def _round_lines(work: dict[str, Any], is_known: bool) -> list[str]:
    what = f"{work['step']}, round {work['round']} on site {work['site']}"
    if is_known and not work["elements"]:
        done = f"{work['done']:,} of {work['shards']:,} shards"
        return [f"  sent out last: {what}: {done}; none of its tasks is in the queue any more"]
    elements = ", ".join(f"{count:,} {state}" for state, count in work["elements"].items())
    rate = 60 * work["done"] / work["seconds"] if work["seconds"] else 0.0
    left = clock(work["seconds_left"]) if work["seconds_left"] is not None else "?"
    return [
        f"  at work: {what}: {work['tasks']:,} tasks"
        f" ({elements or 'none in the queue'}), of {_minutes(work['expected_task_seconds'])} or less",
        f"    {work['done']:,} of {work['shards']:,} shards, {rate:,.1f}/min, {left} left",
    ]


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds / 60)):,} min"


def _advice(status: dict[str, Any]) -> list[str]:
    run, work, jobs = status["run"], status["round"], status["slurm"]
    lines = []
    if jobs["stuck"]:
        lines.append(
            f"  stuck: jobs {', '.join(jobs['stuck'])} will never start; end them: codeio cancel {run} --stuck"
        )
    if work is not None and work["failed"]:
        lines.append(f"  stopped: {work['failed']}")
    if jobs["silence"] is not None:
        lines.append(f"  what is running is not known: {jobs['silence']}")
    if status["state"] != "complete" and not jobs["jobs"]:
        lines.append(f"  continue with: codeio resume {run}" + (f" --site {work['site']}" if work else ""))
    own = ("preempted", "time limit", "requeued")
    if any(trouble["cause"] not in own and trouble["log"] is not None for trouble in status["troubles"]):
        lines.append(f"  the log of the last failure: codeio logs {run}")
    return lines


def result_text(result: dict[str, Any]) -> str:
    """The state of a run that was carried on, and what was done."""
    text = status_text(result)
    if not result["worked"]:
        text += "\n  nothing was missing"
    elif result["at_work"] and result["state"] != "complete":
        text += f"\n  jobs {', '.join(result['at_work'])} of this run are at work; nothing more was submitted"
    elif result["submitted"] and result["state"] != "complete":
        jobs = result["submitted"]
        arrays = f"array{'s' if len(jobs['arrays']) > 1 else ''} {', '.join(jobs['arrays'])}"
        text += f"\n  submitted {arrays} ({jobs['tasks']} tasks), steered on by job {jobs['steer']}"
    return text
