"""Work of training, and how fast a GPU could do it at best: for plans and for MFU. Without torch."""

from __future__ import annotations

from codeio_hpc.config.recipe import ModelFacts
from codeio_hpc.train.weights import active_parameters, head_dim, value_dim

PEAK_FLOPS: dict[str, float] = {
    "H200 NVL": 835.5e12,
    "H200": 989.5e12,
    "GH200": 989.5e12,
    "H100 NVL": 835.5e12,
    "H100 PCIe": 756.5e12,
    "H100": 989.5e12,
    "H800": 989.5e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A800": 312e12,
    "A40": 149.7e12,
    "L40S": 362e12,
    "V100": 125e12,
}
"""Part of the name that the driver gives -> FLOP/s of its matrix units in bfloat16 or float16, dense (a data sheet's
figure "with sparsity" halved); the first that fits counts. From NVIDIA's data sheets of these products; B200 from that
of HGX B200; of V100, which has float16 only, the SXM2 module."""


def peak_flops(device_name: str) -> float | None:
    """FLOP/s in bfloat16 or float16 of the GPU of that name (``torch.cuda.get_device_name()``); None: not known."""
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device_name), None)


def flops_per_token(facts: ModelFacts, length: int) -> float:
    """Floating-point operations of one trained token, forward and backward, in sequences of ``length`` tokens.

    By the convention of MFU (PaLM, arXiv 2204.02311, appendix B): 6 for each weight that the token meets in a matrix
    product, and 12 x layers x heads x head dimension x length for attention, as if it were not causal and samples of a
    packed sequence saw each other. What is recomputed does not count. Published figures count so too.
    """
    matrices = active_parameters(facts) - (
        0 if facts.tied else facts.vocabulary * facts.hidden
    )  # looked up, not multiplied
    attention = facts.layers * facts.heads * (head_dim(facts) + value_dim(facts)) * length
    return 6.0 * (matrices + attention)
