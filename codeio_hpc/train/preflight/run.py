"""``codeio preflight``: the node test, from the roll call to the verdict.

1. Roll call: who does not arrive is named. Clocks are compared.
2. Each rank alone: its device, its way to the run folder.
3. All together, if all are there and well: collectives, and pairs of nodes.
4. Rank 0 judges, and tells all which exit code they have.

Each part has a time limit, and rank 0 never waits for a collective to know who is missing.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from codeio_hpc.errors import UserError
from codeio_hpc.launch.notice import MISCONFIGURED, PASSING
from codeio_hpc.train.local import run_verb
from codeio_hpc.train.preflight import page
from codeio_hpc.train.preflight.figures import LinkReport, RankReport
from codeio_hpc.train.preflight.judge import Finding, absent, judge, lost, unfit
from codeio_hpc.train.preflight.meeting import Meeting, NoAnswerError, within
from codeio_hpc.train.preflight.rehearse import VARIABLE, Rehearsal, read_rehearsal
from codeio_hpc.train.world import World, find_world

_LONGER = 15.0
"""Seconds that ranks wait for rank 0's word, beside twice the patience: it does its own part, then collects theirs."""
_FAREWELL = 5.0
"""Seconds that rank 0 keeps the meeting place open for those that have yet to hear the verdict."""


@dataclass(frozen=True)
class Options:
    """What is asked for."""

    run: Path
    """Where runs are written to: its file system is measured."""
    ranks: int | None = None
    """Started here; None: this process is one of those that the environment tells of."""
    floor: float = 0.8
    """Share of the median below which a rate is too low."""
    patience: float = 120.0
    """Seconds that a rank is waited for, in each part: on a cold file system importing torch alone takes a minute."""
    bad_nodes: Path | None = None
    """File for the names: one line of all, one of those that cannot take part at all; each joined by commas."""
    as_json: bool = False

    def words(self) -> list[str]:
        """The command line that says the same, but for ``ranks``."""
        words = ["preflight", str(self.run), f"--floor={self.floor}", f"--patience={self.patience}"]
        words += [] if self.bad_nodes is None else [f"--bad-nodes={self.bad_nodes}"]
        return [*words, *(["--json"] if self.as_json else [])]


@dataclass
class Rank:
    """This process in the test."""

    options: Options
    meeting: Meeting
    node: str
    rehearsal: Rehearsal
    nodes_of_job: Sequence[str]
    doing: str = "start"
    """What is measured right now, for whoever finds that it never ends."""
    nodes: dict[int, str] = field(default_factory=dict)
    """Of all ranks that arrived."""
    device: Any = None
    device_name: str = ""

    @property
    def world(self) -> World:
        """All ranks."""
        return self.meeting.world

    def begin(self, what: str) -> None:
        """From here on ``what`` is measured."""
        self.doing = what


def preflight(options: Options) -> int:
    """Test the nodes; the exit code: 0 all right, 75 bad nodes were found, 64 configuration. Rank 0 prints."""
    try:
        return _preflight(options, os.environ)
    except UserError as error:
        if _is_first(os.environ):
            print(f"codeio: {error}", file=sys.stderr)
        return MISCONFIGURED


def _preflight(options: Options, environment: Mapping[str, str]) -> int:
    if options.ranks is not None and options.ranks < 1:
        raise UserError(f"--ranks {options.ranks}", "at least one rank does the work", "give 1 or more")
    if not 0 < options.floor < 1:
        raise UserError(f"--floor {options.floor}", "it is a share of the median", "give a number between 0 and 1")
    if _is_first(environment) and not options.run.is_dir():  # who alone does not see it has a bad node
        raise UserError(f"{options.run}: no such folder", "how fast it is written to is measured", "name a run folder")
    rehearsal = read_rehearsal(environment.get(VARIABLE))
    if options.ranks is not None and options.ranks > 1:
        return run_verb(options.words(), options.ranks)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # torch writes a backtrace for every rank that is not there
    world = find_world({} if options.ranks == 1 else environment)
    node = environment.get("SLURMD_NODENAME") or os.uname().nodename
    if node in rehearsal.absent:
        time.sleep(options.patience + _LONGER)
        return PASSING
    try:
        nodes = [name for name in environment.get("CODEIO_NODES", "").split(",") if name]
        rank = Rank(options, Meeting(world, options.patience), node, rehearsal, nodes)
        code = _host(rank) if world.rank == 0 else _guest(rank)
    except NoAnswerError as error:
        print(f"codeio: rank {world.rank} on {node}: {error}", file=sys.stderr)
        if world.rank:
            _write_bad_nodes(options.bad_nodes, [world.address], [world.address], "x")
        code = PASSING
    if world.size > 1:
        _leave(code)
    return code


def _is_first(environment: Mapping[str, str]) -> bool:
    return environment.get("RANK", environment.get("SLURM_PROCID", "0")) == "0"


def _leave(code: int) -> NoReturn:
    """End at once: threads that hang, and gloo's, would keep the interpreter from it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# -- rank 0 ------------------------------------------------------------------------------------------------------------


def _host(rank: Rank) -> int:
    options, meeting, world = rank.options, rank.meeting, rank.world
    meeting.report("here", [rank.node, world.local_rank])
    here = meeting.collect("here", range(world.size), options.patience)
    rank.nodes = {each: node for each, (node, _) in here.items()}
    findings = absent(world.size, rank.nodes_of_job, rank.nodes, f"did not arrive in {options.patience:.0f} s")
    meeting.announce("begin", {str(each): node for each, node in rank.nodes.items()})
    meeting.serve_clock([each for each, (_, local) in here.items() if each and local == 0])
    meeting.report("alone", asdict(_alone(rank)))
    alone = {each: RankReport(**data) for each, data in meeting.collect("alone", here, options.patience).items()}
    findings += _silent(rank, alone, "did not finish what it does alone")
    findings += unfit(list(alone.values()))
    meeting.announce("together", world.size > 1 and not findings)
    together: list[LinkReport] = []
    all_reduce = None
    if world.size > 1 and not findings:
        mine, all_reduce = _together(rank)
        meeting.report("links", asdict(mine))
        links = meeting.collect("links", here, options.patience)
        together = [LinkReport(**data) for data in links.values()]
        findings = _silent(rank, links, "was lost among the others") or lost(together)
    verdict = judge(list(alone.values()), together, findings, options.floor)
    return _tell(rank, page.Result(world.size, list(alone.values()), together, verdict, all_reduce))


def _silent(rank: Rank, heard: Mapping[int, Any], how: str) -> list[Finding]:
    """Ranks that arrived, but did not report."""
    return [
        Finding(node, "absent", f"rank {each} {how} in {rank.options.patience:.0f} s", True)
        for each, node in rank.nodes.items()
        if each not in heard
    ]


def _tell(rank: Rank, result: page.Result) -> int:
    """Print, write down and announce the verdict; its exit code."""
    options, verdict = rank.options, result.verdict
    print(json.dumps(page.as_data(result), indent=1) if options.as_json else page.as_text(result), flush=True)
    code = PASSING if verdict.findings else 0
    _write_bad_nodes(options.bad_nodes, verdict.exclude, verdict.unusable, "w")
    rank.meeting.announce("verdict", code)
    rank.meeting.report("leaves", True)
    rank.meeting.collect("leaves", rank.nodes, _FAREWELL)
    return code


def _write_bad_nodes(path: Path | None, nodes: Sequence[str], unusable: Sequence[str], mode: str) -> None:
    """Mode "x": unless somebody knew better."""
    if path is None or not nodes:
        return
    try:
        with open(path, mode, encoding="utf-8") as file:
            file.write(f"{','.join(nodes)}\n{','.join(unusable)}\n")
    except FileExistsError:
        pass
    except OSError as error:
        print(f"codeio: {path}: {error.strerror}", file=sys.stderr)


# -- every rank --------------------------------------------------------------------------------------------------------


def _guest(rank: Rank) -> int:
    options, meeting, world = rank.options, rank.meeting, rank.world
    longer = 2 * options.patience + _LONGER
    meeting.report("here", [rank.node, world.local_rank])
    rank.nodes = {int(each): node for each, node in meeting.hear("begin", longer).items()}
    skew = meeting.skew() if world.local_rank == 0 else 0.0
    meeting.report("alone", asdict(_alone(rank, skew)))
    if meeting.hear("together", longer):
        meeting.report("links", asdict(_together(rank)[0]))
    code = int(meeting.hear("verdict", longer))
    meeting.report("leaves", True)
    return code


def _alone(rank: Rank, skew: float = 0.0) -> RankReport:
    """What this rank measures alone."""
    number, limit = rank.world.rank, rank.options.patience
    figures: Mapping[str, float] = {}
    problem = "rehearsed: a matrix product is wrong" if rank.node in rank.rehearsal.wrong else None
    try:
        figures = rank.rehearsal.of(rank.node, within(limit, lambda: _measure(rank)))
    except TimeoutError:
        problem = f"{rank.doing} of rank {number} did not end in {limit:.0f} s"
    except (OSError, RuntimeError) as error:
        problem = f"{rank.doing} of rank {number}: {_first_line(error)}"
    return RankReport(number, rank.node, figures, problem, rank.device_name, skew)


def _measure(rank: Rank) -> dict[str, float]:
    from codeio_hpc.train.preflight.measure import choose_device, describe, measure

    rank.begin("device")
    rank.device = choose_device(rank.world.local_rank)
    rank.device_name = describe(rank.device)
    return measure(rank.device, rank.options.run if rank.world.local_rank == 0 else None, rank.begin)


def _together(rank: Rank) -> tuple[LinkReport, float | None]:
    """What this rank measures with the others; and the bandwidth over all of them, the same for each."""
    from codeio_hpc.train.preflight.links import measure_together

    number, limit = rank.world.rank, rank.options.patience
    rank.begin("join")
    try:
        store = rank.meeting.another_store()
        # NCCL's own watchdog ends the whole process, which could say nothing then: its time comes after this clock's
        work = partial(measure_together, rank.world, rank.nodes, store, rank.device, 10 * limit, rank.begin)
        found = within(limit, work)
    except TimeoutError:
        problem = f"did not end in {limit:.0f} s"
    except RuntimeError as error:
        problem = _first_line(error)
    else:
        links = rank.rehearsal.links_of(rank.node, found.links)
        figures = rank.rehearsal.of(rank.node, found.figures)
        figures |= {"link": statistics.median_high(links.values())} if links else {}
        return LinkReport(number, rank.node, figures, None, rank.doing, links), found.all_reduce
    return LinkReport(number, rank.node, {}, problem, rank.doing), None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
