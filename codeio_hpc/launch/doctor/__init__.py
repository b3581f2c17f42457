"""What is true of this cluster, host and compute nodes, and what to change: `codeio doctor`, `codeio site check`.

One file a group of checks. A check is a function from facts to :class:`~codeio_hpc.launch.doctor.finding.Finding`;
what asks SLURM or the machine for those facts is in ``examine.py``, ``host.py`` and ``compute.py``.
"""
