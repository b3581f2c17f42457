"""Learning rates by step."""

from __future__ import annotations

import math

from codeio_hpc.config.recipe import StageRecipe


def learning_rate(stage: StageRecipe, step: int, total_steps: int) -> float:
    """The rate of the optimiser step with this 0-based number, out of ``total_steps``.

    With warm-up, the time t is ``step + 1``: the first step trains already, the one that ends the warm-up has exactly
    ``lr``, and the last one exactly ``min_lr``. Without, t is ``step``: the first step has exactly ``lr``, and the
    cosine would be at ``min_lr`` with the step behind the last one. From t = ``total_steps`` on it stays there:
    ready-made cosines bounce back, and some begin with a step of rate 0.
    """
    time = step + 1 if stage.warmup_steps else step
    if time < stage.warmup_steps:
        return stage.lr * time / stage.warmup_steps
    if stage.schedule == "constant" or time == stage.warmup_steps:
        return stage.lr
    if time >= total_steps:
        return stage.min_lr
    progress = (time - stage.warmup_steps) / (total_steps - stage.warmup_steps)
    return stage.min_lr + (stage.lr - stage.min_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))
