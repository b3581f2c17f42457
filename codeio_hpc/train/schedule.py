"""Learning rates by step."""

from __future__ import annotations

import math

from codeio_hpc.config.recipe import StageRecipe


def learning_rate(stage: StageRecipe, step: int, total_steps: int) -> float:
    """The rate of the optimiser step with this 0-based number, out of ``total_steps``.

    Warm-up is linear, and its first step trains already ((step + 1) / warmup_steps). The cosine starts at ``lr`` with
    the first step after it and would reach ``min_lr`` at ``step == total_steps``; from there it stays (ready-made
    cosines bounce back).
    """
    if step < stage.warmup_steps:
        return stage.lr * (step + 1) / stage.warmup_steps
    if stage.schedule == "constant":
        return stage.lr
    decaying = max(1, total_steps - stage.warmup_steps)
    progress = min(1.0, (step - stage.warmup_steps) / decaying)
    return stage.min_lr + (stage.lr - stage.min_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))
