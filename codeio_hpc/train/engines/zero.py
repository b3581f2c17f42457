"""DeepSpeed's configuration. Plain data: plans of memory read it too, and load no torch."""

from __future__ import annotations

import sys
from typing import Any

from codeio_hpc.config.recipe import DType, Recipe, StageRecipe

REDUCE_BUCKET = 200_000_000
"""Elements of gradients that are reduced together (``reduce_bucket_size``). They exist twice while they are: 0.8 GB in
16 bits instead of 2 GB with DeepSpeed's default of 5e8, and messages of 0.4 GB are far longer than what a network needs
to be at its fastest. The value is that of Lightning's DeepSpeedStrategy."""
LIVE = 1_000_000_000
"""Elements of weights that ZeRO-3 keeps gathered at most (``stage3_max_live_parameters``): DeepSpeed's default."""
SUB_GROUP = 1_000_000_000
"""Elements of a rank's share that ZeRO-3 updates at a time (``sub_group_size``): DeepSpeed's default."""
LOWEST_SCALE = 1.0
"""Of the loss in float16."""


def engine_config(recipe: Recipe, stage: StageRecipe, dtype: DType, universal: bool = False) -> dict[str, Any]:
    """What ``deepspeed.initialize`` is given.

    Accumulation is steered by hand (its length follows the batch), so DeepSpeed is told of none. ``hysteresis: 1``
    halves the loss scale at every overflow, because the step is repeated.
    """
    zero = {"stage": recipe.zero, "reduce_bucket_size": REDUCE_BUCKET}
    if recipe.zero == 3:
        zero |= {"stage3_max_live_parameters": LIVE, "sub_group_size": SUB_GROUP}
        zero |= {"stage3_gather_16bit_weights_on_model_save": True}
    return {
        "train_micro_batch_size_per_gpu": stage.micro_batch,
        "gradient_accumulation_steps": 1,
        "zero_optimization": zero,
        "gradient_clipping": stage.clip,
        "bf16": {"enabled": dtype == "bfloat16", "check_grad_overflow": True},
        "fp16": {
            "enabled": dtype == "float16",
            "initial_scale_power": recipe.loss_scale.initial_power,
            "loss_scale_window": recipe.loss_scale.window,
            "hysteresis": 1,
            "min_loss_scale": LOWEST_SCALE,
        },
        "checkpoint": {"load_universal": universal},
        "steps_per_print": sys.maxsize,
        "wall_clock_breakdown": False,
    }
