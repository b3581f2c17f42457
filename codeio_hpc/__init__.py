"""codeio-hpc: raw code to verified reasoning data, two-stage training and evaluation, on SLURM."""

__version__ = "0.1.0"
