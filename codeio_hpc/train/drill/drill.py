"""Train, preempt, measure, compare."""

from __future__ import annotations

import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.launch.notice import Notice
from codeio_hpc.launch.run import write_json
from codeio_hpc.train.drill.figures import PARTS, Round, differences, rounds
from codeio_hpc.train.drill.jobs import Jobs, Training, Way, way_of
from codeio_hpc.train.drill.place import Place, Size, make_place


@dataclass(frozen=True)
class Report:
    """The result of a drill."""

    place: Place
    way: Way
    asked: int
    """Preemptions that the drill brought about."""
    rounds: list[Round]
    """Of those, and of others that came meanwhile."""
    differing: list[str]
    """In what the preempted training differs from the undisturbed one."""
    disturbed: int
    """How often the undisturbed one was started again by others than the drill."""


def drill(folder: Path | None, site: str | None, size: Size, times: int, minutes: float, quiet: bool) -> Report:
    """Train undisturbed, then preempted ``times`` times, and compare; everything is kept in ``folder``.

    ``minutes``: how long to wait for each thing that has to happen. What was submitted is cancelled, whatever happens.

    Raises:
        UserError: this cannot be done on the site, or the folder is not new.
        RunFailedError: SLURM refused, or a training failed, hung, or ended before it was preempted.
        KeyboardInterrupt: it was told to stop, by whatever signal.
    """
    if times < 1:
        raise UserError(f"--times {times}", "nothing is shown by preempting nothing", "give 1 or more")
    place = make_place(folder, site, size)
    way, notice = way_of(place), Notice(hangup=True)
    jobs = Jobs(place, 60 * minutes, quiet, notice)
    _tell(jobs, f"{_size(place)}; in {place.folder}")
    try:
        undisturbed = jobs.train(place.undisturbed)
        jobs.wait(undisturbed, undisturbed.is_done, "the end of an undisturbed training")
        preempted = jobs.train(place.preempted)
        for number, step in enumerate(_moments(place.steps, times), start=1):
            _preempt_once(jobs, preempted, step, f"{number} of {times}, {way.text}")
        jobs.wait(preempted, preempted.is_done, "the end of the preempted training")
    finally:
        jobs.cancel()
        notice.restore()
    report = Report(
        place,
        way,
        times,
        rounds(place.preempted, preempted.attempts()),
        differences(place.preempted, place.undisturbed),
        len(undisturbed.attempts()) - 1,
    )
    write_json(place.folder / "drill.json", as_data(report))
    return report


def _size(place: Place) -> str:
    nodes, ranks = place.resources.nodes, place.resources.ranks_per_node
    return f"{nodes} node{'s' * (nodes > 1)} x {ranks} rank{'s' * (ranks > 1)}, {place.steps} steps"


def _moments(steps: int, times: int) -> list[int]:
    """Steps behind which the training is preempted: by chance, one in each of so many parts of it."""
    width = (steps * 4 // 5) / times
    return [max(2, int(width * (number + random.random()))) for number in range(times)]


def _preempt_once(jobs: Jobs, training: Training, step: int, what: str) -> None:
    jobs.wait(training, lambda: training.steps() >= step or training.is_done(), f"step {step}")
    before = training.attempts()
    _refuse_end(jobs, training)
    _tell(jobs, f"preemption {what}, at step {training.steps()}")
    jobs.preempt(training, before[-1].host)

    def goes_on() -> bool:
        attempts = training.attempts()
        return training.is_done() or (len(attempts) > len(before) and "step" in attempts[-1].moments)

    jobs.wait(training, goes_on, "the first step after the preemption")
    if len(training.attempts()) == len(before):
        _refuse_end(jobs, training)


def _refuse_end(jobs: Jobs, training: Training) -> None:
    if training.is_done():
        steps = jobs.place.steps
        raise RunFailedError(
            f"the training of {steps} steps ended before SLURM preempted it; make it longer: --steps {4 * steps}"
        )


def _tell(jobs: Jobs, text: str) -> None:
    if not jobs.quiet:
        print(f"drill: {text}", file=sys.stderr, flush=True)


def is_identical(report: Report) -> bool:
    """Whether the preempted training gave the undisturbed one's bits."""
    return not report.differing


def as_data(report: Report) -> dict[str, Any]:
    """The report as JSON data."""
    resources = report.place.resources
    return {
        "site": report.place.site.name,
        "nodes": resources.nodes,
        "ranks_per_node": resources.ranks_per_node,
        "steps": report.place.steps,
        "way": report.way.text,
        "asked": report.asked,
        "rounds": [asdict(each) | {"restart_seconds": each.restart_seconds} for each in report.rounds],
        "identical": is_identical(report),
        "differing": report.differing,
        "undisturbed_restarts": report.disturbed,
        "shows_not": report.way.shows_not,
        "folder": str(report.place.folder),
    }


def as_text(report: Report) -> str:
    """The report for people."""
    data = as_data(report)
    lines = [f"site {data['site']}: {_size(report.place)}; {data['way']}"]
    for number, each in enumerate(report.rounds, start=1):
        lines += [f"preemption {number} of {len(report.rounds)}"] if len(report.rounds) > 1 else []
        lines += [f"  {name:<14}{text}" for name, text in _figures(each)]
    same = f"yes: {data['steps']} losses and the weights are those of an undisturbed training"
    lines.append(
        f"  {'bit-identical':<14}{'NO: ' + ' and '.join(report.differing) + ' differ' if data['differing'] else same}"
    )
    if len(report.rounds) > report.asked:
        lines.append(f"{len(report.rounds) - report.asked} of these restarts were not the drill's doing")
    if report.disturbed:
        lines.append(f"the undisturbed training was itself started again {report.disturbed} times, by others")
    lines.append(f"not shown: {report.way.shows_not}")
    lines.append(f"kept for inspection: {report.place.folder}")
    return "\n".join(lines)


def _figures(each: Round) -> list[tuple[str, str]]:
    lost = f"{each.lost_steps} finished steps ({each.lost_seconds:.1f} s)" if each.lost_steps else "no finished step"
    parts = ", ".join(f"{name} {each.restart[name]:.1f}" for name in PARTS if name in each.restart)
    total = "not measured" if each.restart_seconds is None else f"{each.restart_seconds:.1f} s"
    return [
        ("notice", _notice_text(each)),
        ("save", _save_text(each)),
        ("lost work", f"{lost}, and what was begun of the next (at most {each.begun_seconds:.1f} s)"),
        ("restart", f"{total} ({parts})"),
    ]


def _notice_text(each: Round) -> str:
    if each.notice is None:
        return "none"
    return f"{each.notice:.1f} s from {each.signal} until the job had left its nodes"


def _save_text(each: Round) -> str:
    if each.save is None:
        return "none was published before the end"
    times = f"{each.save.blocked:.2f} s blocked, published after {each.save.published:.2f} s (step {each.save.step})"
    return times if each.save.on_notice else f"none within the notice; the last before it: {times}"
