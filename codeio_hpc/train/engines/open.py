"""Which engine trains. Loads torch."""

from __future__ import annotations

from typing import Any

from codeio_hpc.config.recipe import DType
from codeio_hpc.train.engines.base import Engine
from codeio_hpc.train.engines.deepspeed import DeepSpeedEngine
from codeio_hpc.train.meeting import Ranks
from codeio_hpc.train.plan import TrainingPlan


def open_engine(plan: TrainingPlan, ranks: Ranks, dtype: DType, model: Any, saved: str | None) -> Engine:
    """The engine that trains ``model``, which is at step 0, on these ranks.

    Args:
        saved: the layout of the checkpoint that it will be given to load; None: of none.

    Raises:
        UserError: it cannot load that layout.
    """
    return DeepSpeedEngine(model, plan.recipe, plan.stage, dtype, ranks.device, saved)
