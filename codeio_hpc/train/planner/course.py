"""How long a stage takes, what its checkpoints take, and what preemption takes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from codeio_hpc.config.recipe import StageRecipe
from codeio_hpc.launch.doctor.planner import interval_seconds
from codeio_hpc.train.flops import flops_per_token
from codeio_hpc.train.planner.hardware import Cluster
from codeio_hpc.train.planner.load import Load
from codeio_hpc.train.planner.tokens import PACKED, Tokens
from codeio_hpc.train.weights import parameters

MFU = 0.35
"""Of dense models, where nothing is measured. Transformers' models under DeepSpeed ZeRO-2, 7B at 4,096 tokens on 8
A800: 0.41 without and 0.32 with recomputed activations (a gist of GitHub user chenyaofo). Tuned FSDP comes to 0.55
(README of llm-foundry, 7B to 30B on A100)."""
MFU_OF_MIXTURES = 0.15
"""Of mixtures of experts: nobody has published what transformers' come to in full fine-tuning. A guess."""
WRITE_BYTES = 2e9
"""A second, of all ranks together, to a shared file system. A guess: measure yours."""
COPY_BYTES = 5e9
"""A second, from a GPU to pageable memory of its host. A guess: a fifth of PCIe 4.0 x16."""
RESTART_SECONDS = 300.0
"""From the job's start to the first step, without waiting in the queue and reading the checkpoint. A guess."""
_HOUR, _DAY = 3600.0, 86_400.0


@dataclass(frozen=True)
class Assumed:
    """What a plan assumes of speeds."""

    mfu: float
    write_bytes: float = WRITE_BYTES
    preemptions_per_day: float = 0.0
    """Of this training's job."""


def steps_of(stage: StageRecipe, tokens: Tokens | None) -> int | None:
    """Optimiser steps; None if they depend on data that are not known."""
    if stage.steps is not None:
        return stage.steps
    if tokens is None:
        return None
    sequences = math.ceil(tokens.sequences * (1 - stage.validation_fraction))
    units = sequences if stage.batch_unit == "sequences" else tokens.samples * (1 - stage.validation_fraction)
    return min(sequences, math.ceil(units / stage.batch_size)) * (stage.epochs or 1)


def sequences_a_step(stage: StageRecipe, tokens: Tokens | None) -> float | None:
    """Packed sequences of a global batch, on average; None if that depends on data that are not known."""
    if stage.batch_unit == "sequences":
        return float(stage.batch_size)
    return None if tokens is None else stage.batch_size * tokens.sequences / tokens.samples


def course_of(
    stage: StageRecipe, load: Load, tokens: Tokens | None, cluster: Cluster, mfu: float
) -> dict[str, Any] | None:
    """Steps and hours, as plain data; None if the data or the GPU are not known. Times in seconds.

    Every rank does as many micro-batches as every other, the last ones maybe empty: "busy" is the share that is not.
    """
    steps, sequences = steps_of(stage, tokens), sequences_a_step(stage, tokens)
    if steps is None or sequences is None or cluster.gpu.flops is None:
        return None
    length = tokens.per_sequence if tokens else PACKED * load.length
    micro_batches = math.ceil(sequences / (load.ranks * load.rows))
    flops = flops_per_token(load.facts, load.length)
    seconds = micro_batches * load.rows * length * flops / (cluster.gpu.flops * mfu)
    return {
        "steps": steps,
        "sequences_a_step": sequences,
        "micro_batches": micro_batches,
        "tokens_a_sequence": length,
        "flops_a_token": flops,
        "tokens": steps * sequences * length,
        "epochs": steps * sequences / tokens.sequences if tokens else None,
        "busy": sequences / (micro_batches * load.ranks * load.rows),
        "step_seconds": seconds,
        "hours": steps * seconds / _HOUR,
        "gpu_hours": steps * seconds / _HOUR * load.ranks,
        "tokens_a_second_and_gpu": sequences * length / seconds / load.ranks,
    }


def checkpoints_of(stage: StageRecipe, load: Load, cluster: Cluster, write_bytes: float) -> dict[str, Any]:
    """Bytes and seconds of a checkpoint: weights once, float32 weights and Adam's moments in parts by all ranks.

    Training waits while a rank copies its part to its host's memory; the first one's is largest.
    """
    count, weights = parameters(load.facts), load.element * parameters(load.facts)
    states = 12 * count / load.ranks
    largest = states + (weights / load.ranks if load.zero == 3 else weights)
    total = float(weights + 12 * count)
    return {
        "bytes": total,
        "kept_bytes": (stage.keep + 1) * total,
        "host_bytes": min(cluster.gpus_per_node, load.ranks) * states + weights,
        "waiting_seconds": largest / COPY_BYTES,
        "write_seconds": total / write_bytes,
    }


def preemption_of(
    stage: StageRecipe, step_seconds: float, checkpoints: dict[str, Any], per_day: float
) -> dict[str, Any]:
    """The best interval between checkpoints by Young and Daly, and the share of time that is lost by it and by the
    recipe's ("save_every" is in steps). A save that is not over when the next is due delays it: the interval is never
    shorter than writing."""
    given = stage.steps_between_saves(step_seconds)
    if not per_day:
        share = checkpoints["waiting_seconds"] / (given * step_seconds)
        return {"per_day": 0.0, "lost_share": share, "save_every": given}
    between = _DAY / per_day
    best = max(interval_seconds(checkpoints["waiting_seconds"], between / _HOUR), checkpoints["write_seconds"])
    save_every = max(1, round(best / step_seconds))
    return {
        "per_day": per_day,
        "save_every": given,
        "lost_share": lost_share(given * step_seconds, checkpoints, between),
        "best_save_minutes": best / 60,
        "best_save_every": save_every,
        "best_lost_share": lost_share(save_every * step_seconds, checkpoints, between),
    }


def lost_share(interval: float, checkpoints: dict[str, Any], between: float) -> float:
    """Share of time: waiting for copies; and at each preemption the work since the last published checkpoint (half an
    interval and its writing), reading it, and starting."""
    again = interval / 2 + 2 * checkpoints["write_seconds"] + RESTART_SECONDS
    return float(checkpoints["waiting_seconds"] / interval + again / between)
