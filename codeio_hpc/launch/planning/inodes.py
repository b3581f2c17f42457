"""How many files a simulated build has, from its rounds: cluster file systems ration them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codeio_hpc.launch.plan import Step
from codeio_hpc.launch.planning.simulate import Outcome
from codeio_hpc.stages.base import GatherStage

_INDEXED = 500
"""Shards from which on a stage has an index (tables/index.py)."""
_OF_A_TASK = 3
"""Its log, and two of submitit's files: what is to be called, and what came of it."""
_OF_A_STEERING_JOB = 4
"""As a task, and its script."""


def count_inodes(
    outcome: Outcome, work: Sequence[Step], shards: int, in_stages: Mapping[str, float], on_site: bool
) -> dict[str, int]:
    """Inodes of the run folder, folders included: {"peak", "end", "packed"}, that is at the end of the fullest round,
    at the build's end, and after `codeio pack`.

    Args:
        in_stages: stage -> files in its folder once it is complete; the list of sources is one of them.
    """
    first = 6 + round(in_stages["00-sources"])  # the run, run.json, stages, 00-sources, attempts, logs
    first += 2 * (shards >= _INDEXED)  # the folder of indices, and that of 00-sources
    published, kept, attempts, peak = float(first), 0, 0, 0.0
    for number, record in enumerate(outcome.rounds):
        if number == 0 or outcome.rounds[number - 1].step != record.step:
            published += _of_step(work[record.step], shards, in_stages)
        if not on_site:
            attempts += record.attempts
            continue
        logs = 2 + _OF_A_TASK * record.tasks + record.arrays + _OF_A_STEERING_JOB  # its folder and round.json
        peak = max(peak, published + kept + record.attempts + logs)
        # when the next job steers, submitit's files are removed; records and logs of success become one file. Its own
        # stay until the round that it sends out is over, and its log for good
        kept += 4 + record.troubled + (_OF_A_STEERING_JOB - 1 if number == 0 else 0)
    if not on_site:
        return {"peak": round(published + attempts), "end": round(published + attempts), "packed": round(published) + 1}
    rounds = len(outcome.rounds)
    return {
        "peak": round(peak),
        "end": round(published + kept),
        "packed": round(published + 1 + 2 * rounds),  # packed.zip; a folder with its record for each round
    }


def _of_step(step: Step, shards: int, in_stages: Mapping[str, float]) -> float:
    """Files that a step adds, folders and indices included."""
    index = shards >= _INDEXED
    if step.kind == "sketch":
        return 1 + shards + 1 + index  # the folder, and the decision
    added = 0.0
    for place in step.places:
        there_already = shards if isinstance(place.stage, GatherStage) else -1  # its sketches; else not even the folder
        added += in_stages[place.stage.name] - there_already + index
    return added
