"""The check-ups as commands: ask for the facts, each once, and hand them to the checks."""

from __future__ import annotations

from codeio_hpc.config.policy import read_policies
from codeio_hpc.launch import slurm
from codeio_hpc.launch.cluster import Cluster, ask_cluster
from codeio_hpc.launch.doctor.finding import Finding
from codeio_hpc.launch.doctor.site import file_findings, site_findings
from codeio_hpc.launch.site_init import container_runtimes
from codeio_hpc.launch.sites import chosen_site, find_site, load_site


def check_site(name: str | None) -> list[Finding]:
    """Hold a site file against the cluster that this host belongs to.

    Raises:
        UserError: there is no such file, or it is wrong by itself.
    """
    site = load_site(chosen_site(name))
    assert site is not None  # a name was given
    found = [Finding("file", str(find_site(chosen_site(name))))]
    cluster = _cluster()
    found += [cluster] if isinstance(cluster, Finding) else site_findings(site, cluster, slurm.try_submission)
    return [*found, *file_findings(site, read_policies(), container_runtimes())]


def _cluster() -> Cluster | Finding:
    """What SLURM says; or why it says nothing."""
    if not slurm.available():
        return Finding("cluster", "SLURM is not installed here", "skipped", "type this on a login node")
    try:
        return ask_cluster()
    except slurm.SchedulerError as error:
        return Finding("cluster", str(error), "fail", "ask your administrators whether the controller is up")
