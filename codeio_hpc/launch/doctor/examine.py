"""The check-ups as commands: ask for the facts, each once, and hand them to the checks."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codeio_hpc.config.policy import demanded_isolation, read_policies
from codeio_hpc.config.recipe import StageRecipe, recipe_of
from codeio_hpc.config.run import SandboxSettings
from codeio_hpc.config.site import Preemption, Site
from codeio_hpc.errors import UserError
from codeio_hpc.launch import slurm
from codeio_hpc.launch.cluster import Cluster, ask_cluster
from codeio_hpc.launch.doctor.environment import cache_findings, environment_findings
from codeio_hpc.launch.doctor.finding import Finding, located
from codeio_hpc.launch.doctor.planner import notice_findings, training_times
from codeio_hpc.launch.doctor.scheduler import Associations, no_scheduler, scheduler_findings
from codeio_hpc.launch.doctor.site import classes_of, file_findings, policy_findings, site_findings, submission_finding
from codeio_hpc.launch.run import open_run
from codeio_hpc.launch.sites.files import chosen_site, find_site, load_site
from codeio_hpc.launch.sites.flags import sbatch_flags
from codeio_hpc.launch.sites.init import container_runtimes


def check_site(name: str | None) -> list[Finding]:
    """Hold a site file against the cluster that this host belongs to.

    Raises:
        UserError: there is no such file, or it is wrong by itself.
    """
    name = chosen_site(name)
    site = load_site(name)
    found = [Finding("file", str(find_site(name)))]
    cluster = _cluster()
    found += [cluster] if isinstance(cluster, Finding) else site_findings(site, cluster, slurm.try_submission)
    return [*found, *file_findings(site, read_policies(), container_runtimes())]


def examine(name: str | None, run: Path | None, compute: bool) -> list[Finding]:
    """The whole check-up: SLURM, the shell, this host, with ``compute`` a node of each class, and the notice planner.

    Raises:
        UserError: the site or run that was named is not there or wrong; ``compute`` without a site.
    """
    site = _site(name)
    if compute and site is None:
        raise UserError("--compute", "the site file says which nodes to look at", "codeio site init, on a login node")
    minimum = _minimum(open_run(run).config.sandbox if run else SandboxSettings())
    cluster = _cluster()
    found = [*_scheduler(cluster, site), *environment_findings(os.environ), *cache_findings(os.environ, site)]
    found += [*policy_findings(read_policies()), *_host(site, run, minimum)]
    found = located(found, "login")
    if compute and site is not None:
        from codeio_hpc.launch.doctor.compute import compute_classes

        found += compute_classes(site, list(classes_of(site)), chosen_site(name), runs_folder(run))
    return [*found, *located(_notice(site, cluster, run), "login")]


def examine_sandbox(run: Path | None) -> list[Finding]:
    """The sandbox of this host, level by level, against what the run (and site policies) demand.

    Raises:
        UserError: the run that was named is not there or wrong.
    """
    from codeio_hpc.launch.doctor.sandbox import sandbox_check

    return sandbox_check(_minimum(open_run(run).config.sandbox if run else SandboxSettings()))


def examine_here(name: str, resource_class: str, run: Path, meeting: Path) -> dict[str, Any]:
    """What a compute node answers; see :mod:`codeio_hpc.launch.doctor.compute`."""
    from codeio_hpc.launch.doctor.compute import here

    settings = open_run(run).config.sandbox if (run / "run.json").exists() else SandboxSettings()
    return here(load_site(name), resource_class, run, _minimum(settings), meeting)


def _minimum(settings: SandboxSettings) -> str:
    return demanded_isolation(settings.minimum, read_policies())


def runs_folder(run: Path | None) -> Path:
    """Where files are tried: the run, else where runs are made."""
    return run or (Path("runs") if Path("runs").is_dir() else Path("."))


def _site(name: str | None) -> Site | None:
    """The site that is named; where none is, the one in use, if there is one."""
    if name is None and "CODEIO_SITE" not in os.environ:
        try:
            find_site(chosen_site(None))
        except UserError:
            return None
    return load_site(chosen_site(name))


def _cluster() -> Cluster | Finding:
    """What SLURM says; or why it says nothing."""
    try:
        return ask_cluster()
    except slurm.NoClusterError as error:
        return Finding("cluster", str(error), "skipped", "type this on a login node")
    except slurm.SchedulerError as error:
        return Finding("cluster", str(error), "fail", "ask your administrators whether the controller is up")


def _scheduler(cluster: Cluster | Finding, site: Site | None) -> Iterator[Finding]:
    if isinstance(cluster, Finding):
        yield cluster
        yield from no_scheduler("no answer from SLURM")
        return
    yield from scheduler_findings(cluster, site, _associations(cluster))
    for name in classes_of(site) if site else ():
        assert site is not None
        yield submission_finding(name, sbatch_flags(site, name), slurm.try_submission)


def _associations(cluster: Cluster) -> Associations:
    try:
        return slurm.associations(pwd.getpwuid(os.getuid()).pw_name, cluster.setting("ClusterName"))
    except slurm.SchedulerError as error:
        return f"not readable: {error}"


def _host(site: Site | None, run: Path | None, minimum: str) -> list[Finding]:
    from codeio_hpc.launch.doctor.host import host_findings

    return host_findings(site, None, runs_folder(run), minimum)


def _notice(site: Site | None, cluster: Cluster | Finding, run: Path | None) -> Iterator[Finding]:
    stages = training_times(run, _stage_recipes(run)) if run else []
    why_none = "no training was measured in that run" if run else "no run was named"
    live = None if isinstance(cluster, Finding) else cluster
    kill_wait = live.number("KillWait") if live else None
    yield from notice_findings(_preemption(site, live), kill_wait, stages, why_none)


def _preemption(site: Site | None, live: Cluster | None) -> Preemption | None:
    """Of training: what the cluster says, else what the site file says."""
    resources = site and (site.resources.train or site.resources.gpu or site.resources.cpu)
    if not resources:
        return None
    partitions = live.named(resources.partition)[0] if live else []
    if live is None or not partitions or live.preempts == "qos":
        return resources.preemption
    return min(
        (live.preemption(each) for each in partitions), key=lambda fact: (fact.mode == "off", fact.grace_seconds)
    )


def _stage_recipes(run: Path) -> dict[str, StageRecipe]:
    """Of each stage, as the run's recipe says; empty where the recipe is not there any more."""
    try:
        recipe = recipe_of(open_run(run).config)
    except UserError:
        return {}
    return {stage: recipe.stage(stage) for stage in recipe.has}
