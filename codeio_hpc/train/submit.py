"""``codeio train --site``: the batch job that ``sbatch slurm/STAGE.sh RUN`` makes, submitted with the site's flags.

It is that script, and not a function that submitit would pickle and start in an srun of its own: warnings, requeuing
and exit codes are the script's, whoever submits it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from codeio_hpc.config.site import Site
from codeio_hpc.launch import slurm
from codeio_hpc.launch.jobs import batch_library
from codeio_hpc.launch.sites.files import find_site, load_site
from codeio_hpc.launch.sites.flags import resources_of, sbatch_flags
from codeio_hpc.train.lease import refuse_held
from codeio_hpc.train.plan import make_plan


def submit(run: Path, stage: str, site_name: str) -> dict[str, Any]:
    """Submit the training of a stage, from here: ``job``, ``log``, ``nodes`` and ``ranks_per_node``; or ``steps`` and
    ``model`` of one that is finished.

    Raises:
        UserError: it cannot be trained, another start trains it, or there is no such site.
        SchedulerError: SLURM did not take it.
    """
    plan = make_plan(run, stage)
    told: dict[str, Any] = {"run": str(run), "stage": stage}
    if plan.record is not None:
        return {**told, "state": "already finished", "steps": plan.record["steps"], "model": str(plan.models / stage)}
    refuse_held(run, stage)
    site = load_site(site_name)
    resources = resources_of(site, "train")
    job = submit_script(Path.cwd(), stage, run.absolute(), site, find_site(site_name).absolute())
    shape = {"nodes": resources.nodes, "ranks_per_node": resources.ranks_per_node}
    return {**told, "state": "submitted", "job": job, "log": str(Path.cwd() / f"codeio-{stage}-{job}.out"), **shape}


def submit_text(done: dict[str, Any]) -> str:
    """The same for people."""
    if done["state"] != "submitted":
        return f"{done['stage']} {done['state']}: {done['steps']:,} steps, {done['model']}"
    return (
        f"submitted {done['stage']} of {done['run']} as job {done['job']}: {done['nodes']} nodes x "
        f"{done['ranks_per_node']} ranks\n  its log: {done['log']}\n  how far it is: codeio status {done['run']}"
    )


def submit_script(folder: Path, stage: str, run: Path, site: Site, site_file: Path) -> str:
    """Do in ``folder`` what a person does who types ``sbatch slurm/STAGE.sh RUN`` with all of the site's flags; the
    job's id.

    Raises:
        SchedulerError: SLURM did not take it.
    """
    home = batch_library().parents[2]
    variables = {"CODEIO_HOME": str(home), "CODEIO_PYTHON": sys.executable, "CODEIO_SITE": str(site_file)}
    words = [*sbatch_flags(site, "train"), str(home / "slurm" / f"{stage}.sh"), str(run)]
    return slurm.submit_as_typed(folder, words, variables)
