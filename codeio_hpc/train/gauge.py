"""How well the GPUs are used, and how much of their memory. Loads torch."""

from __future__ import annotations

import torch

from codeio_hpc.config.facts import facts_of_model
from codeio_hpc.errors import UserError
from codeio_hpc.train.flops import flops_per_token, peak_flops
from codeio_hpc.train.meeting import Ranks
from codeio_hpc.train.plan import TrainingPlan


class Gauge:
    """MFU (:mod:`codeio_hpc.train.flops`) on GPUs whose peak is known, and the most memory so far; nothing on CPUs."""

    def __init__(self, plan: TrainingPlan, ranks: Ranks) -> None:
        self._cuda = ranks.device.type == "cuda"
        peak = peak_flops(torch.cuda.get_device_name()) if self._cuda else None
        self._peak = peak and peak * ranks.size
        try:
            self._flops = flops_per_token(facts_of_model(plan.source), plan.recipe.length(plan.name)) if peak else 0.0
        except UserError:  # an architecture that is not counted
            self._flops = 0.0

    def read(self, tokens: float, seconds: float) -> dict[str, float]:
        """``mfu`` of a step over so many tokens, and ``memory_bytes``, the most that rank 0's allocator has held."""
        found: dict[str, float] = {}
        if self._cuda:
            found["memory_bytes"] = torch.cuda.max_memory_allocated()
        if self._flops and self._peak:
            found["mfu"] = round(tokens * self._flops / (max(seconds, 1e-9) * self._peak), 4)
        return found
