"""Site files: which one is meant, what its facts mean to SLURM, and a first one guessed from what a cluster says."""
