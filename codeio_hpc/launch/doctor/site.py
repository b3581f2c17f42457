"""Is a site file right? Each of its statements against the live cluster."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from codeio_hpc.config.policy import PolicyFile
from codeio_hpc.config.site import ResourceClasses, Resources, Site
from codeio_hpc.launch.cluster import Cluster
from codeio_hpc.launch.doctor.finding import Finding
from codeio_hpc.launch.doctor.storage import SHARED, filesystem
from codeio_hpc.launch.notice import SAVED
from codeio_hpc.launch.sites.flags import sbatch_flags
from codeio_hpc.launch.sites.guess import Refusal
from codeio_hpc.launch.slurm import NodeKind, Partition


def classes_of(site: Site) -> dict[str, Resources]:
    """The resource classes that the site has."""
    found = {name: getattr(site.resources, name) for name in ResourceClasses.model_fields}
    return {name: resources for name, resources in found.items() if resources is not None}


def site_findings(site: Site, cluster: Cluster, refusal: Refusal) -> Iterator[Finding]:
    """Everything that the cluster knows better than the file. One `sbatch --test-only` for each resource class."""
    for name, resources in classes_of(site).items():
        partitions, unknown = cluster.named(resources.partition)
        yield partition_finding(name, resources, cluster, unknown)
        if not unknown:
            kinds = [kind for partition in partitions for kind in partition.kinds]
            yield from hardware_findings(name, resources, kinds, sum(partition.nodes for partition in partitions))
            yield from whole_node_findings(name, resources, cluster, partitions)
            yield time_finding(name, resources, partitions)
            yield preemption_finding(name, resources, cluster, partitions)
        yield submission_finding(name, sbatch_flags(site, name), refusal)
    yield array_finding(site, cluster)
    yield from requeue_findings(site, cluster)


def partition_finding(name: str, resources: Resources, cluster: Cluster, unknown: Sequence[str]) -> Finding:
    """Do the partitions exist?"""
    value = resources.partition or "the cluster's default"
    if not unknown:
        return Finding(f"{name} partition", value)
    known = ", ".join(partition.name for partition in cluster.partitions)
    fix = f"resources.{name}.partition: one of {known}"
    return Finding(f"{name} partition", f"{value}: there is no {', '.join(unknown)}", "fail", fix)


def hardware_findings(name: str, resources: Resources, kinds: Sequence[NodeKind], nodes: int) -> Iterator[Finding]:
    """Do CPUs, memory and GPUs of one node, and all nodes together, fit?"""
    cpus = resources.ranks_per_node * resources.cpus_per_rank
    memory = memory_per_node(resources)
    for what, asked, most, unit in (
        ("cpus", cpus, [kind.cpus for kind in kinds], ""),
        ("memory", memory, [kind.memory_mb for kind in kinds], " MB"),
        ("gpus", resources.gpus_per_node, [kind.gpus for kind in kinds], ""),
        ("nodes", resources.nodes, [nodes], ""),
    ):
        if asked is not None and (asked or what == "cpus"):
            yield _fit(name, what, asked, most, unit)
    typed = {kind.gpu_type for kind in kinds}
    if resources.gpu_type and resources.gpu_type not in typed:
        have = ", ".join(sorted(filter(None, typed))) or "none with a name"
        fix = f"resources.{name}.gpu_type: leave it out, or one of: {have}"
        yield Finding(f"{name} gpu type", f"{resources.gpu_type}; the partition has {have}", "fail", fix)


def whole_node_findings(
    name: str, resources: Resources, cluster: Cluster, partitions: Sequence[Partition]
) -> Iterator[Finding]:
    """Where a job gets whole nodes: does the class ask for all of one? What it does not ask for lies idle."""
    for partition in partitions:
        setting = cluster.whole_nodes(partition)
        if setting is None or not partition.kinds:
            continue
        node = partition.smallest(gpus=resources.gpus_per_node > 0)
        asked, most, what = resources.ranks_per_node * resources.cpus_per_rank, node.cpus, "CPUs"
        if resources.gpus_per_node:
            asked, most, what = resources.gpus_per_node, node.gpus, "GPUs"
        value = f"asks for {asked} of {most} {what}"
        if asked < most:
            fix = f"a job on {partition.name} gets whole nodes ({setting}): ask for all, or use another partition"
            yield Finding(f"{name} whole nodes", value, "warn", fix)
        else:
            yield Finding(f"{name} whole nodes", value)


def _fit(name: str, what: str, asked: int, have: Sequence[int], unit: str) -> Finding:
    label = "nodes" if what == "nodes" else f"{what} a node"
    most, least = max(have, default=0), min(have, default=0)
    value = f"{asked} of {most}{unit}"
    if asked > most:
        return Finding(f"{name} {label}", value, "fail", f"ask for less, or for another partition: resources.{name}")
    if asked > least:
        fix = f"some nodes of the partition have only {least}{unit}: jobs wait for the others"
        return Finding(f"{name} {label}", value, "warn", fix)
    return Finding(f"{name} {label}", value)


def memory_per_node(resources: Resources) -> int | None:
    """Megabytes of one node that the class asks for; None where it does not say."""
    text = resources.memory.value
    if text is None:
        return None
    each = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}[text[-1]] * int(text[:-1])
    cpus = resources.ranks_per_node * resources.cpus_per_rank
    times = {"mem-per-cpu": cpus, "mem-per-gpu": resources.gpus_per_node}.get(resources.memory.style, 1)
    return int(each * times)


def time_finding(name: str, resources: Resources, partitions: Sequence[Partition]) -> Finding:
    """Is the time limit within the partition's? Of several the job gets one that allows it."""
    limits = [math.inf if partition.minutes is None else partition.minutes for partition in partitions]
    most, least = max(limits), min(limits)
    value = (
        f"{resources.time} min, the partition has no limit" if most == math.inf else f"{resources.time} min of {most}"
    )
    if resources.time > most:
        return Finding(f"{name} time", value, "fail", f"resources.{name}.time: {most}m, or less")
    if resources.time > least:
        narrow = ", ".join(each.name for each in partitions if (each.minutes or math.inf) < resources.time)
        return Finding(f"{name} time", value, "warn", f"never starts on {narrow}: {least}m, or less, would")
    return Finding(f"{name} time", value)


def preemption_finding(name: str, resources: Resources, cluster: Cluster, partitions: Sequence[Partition]) -> Finding:
    """Are the facts about preemption those of the partition? A warning that never comes costs work."""
    facts = [cluster.preemption(partition) for partition in partitions]
    order = ("off", "requeue", "cancel")
    worst = max(facts, key=lambda fact: (order.index(fact.mode), -fact.grace_seconds, not fact.warned))
    said = resources.preemption
    right = f"{{mode: {worst.mode}, grace_seconds: {worst.grace_seconds}, warned: {str(worst.warned).lower()}}}"
    value = f"{said.mode}, {said.grace_seconds} s grace, {'warned' if said.warned else 'not warned'}"
    fix = f"resources.{name}.preemption: {right}"
    if cluster.preempts == "qos":
        fix = "the QOS decides here: sacctmgr show qos format=name,preemptmode,gracetime"
        return Finding(f"{name} preemption", value, "skipped", fix)
    if said == worst:
        return Finding(f"{name} preemption", value)
    if "preemption" not in resources.model_fields_set:
        return Finding(f"{name} preemption", "not stated, so: off", "warn", fix)
    return Finding(f"{name} preemption", f"{value}; the partition's: {right}", "fail", fix)


def submission_finding(name: str, flags: Sequence[str], refusal: Refusal) -> Finding:
    """Would SLURM take a job of this class: account, QOS, memory style and all?"""
    refused = refusal(flags)
    if refused is None:
        memory = next((flag for flag in flags if flag.startswith("--mem")), "no flag for memory")
        return Finding(f"{name} submission", f"accepted, with {memory} (sbatch --test-only)")
    return Finding(f"{name} submission", refused, "fail", f"try: sbatch --test-only {' '.join(flags)} --wrap=true")


def array_finding(site: Site, cluster: Cluster) -> Finding:
    """Is MaxArraySize what the file says, and does ``max_array_tasks`` allow it?"""
    most = cluster.max_array_tasks
    if most is None:
        return Finding("max_array_size", "not told", "skipped")
    value = f"{site.max_array_size} of {most}"
    if site.max_array_size > most:
        return Finding("max_array_size", value, "fail", f"max_array_size: {most}")
    return Finding("max_array_size", value)


def requeue_findings(site: Site, cluster: Cluster) -> Iterator[Finding]:
    """Who brings a job back that saved its state: exactly one, and one that does."""
    yield _owner_finding(site, cluster)
    for name, resources in classes_of(site).items():
        partitions, _ = cluster.named(resources.partition)
        cancelled = [each.name for each in partitions if cluster.preemption(each).mode == "cancel"]
        if cancelled and site.requeue != "none":
            yield Finding(
                f"{name} requeue",
                f"{', '.join(cancelled)}: PreemptMode=CANCEL, where --requeue does nothing",
                "warn",
                "a preempted job is gone: type the same sbatch line again (it continues), or use another partition",
            )


def _owner_finding(site: Site, cluster: Cluster) -> Finding:
    if site.requeue not in ("none", cluster.requeue_owner):
        found = cluster.setting("RequeueExit") or "not set"
        has = f"has {SAVED}: SLURM requeues too" if cluster.requeue_owner == "slurm" else f"is without {SAVED}"
        fix = f"requeue: {cluster.requeue_owner}"
        return Finding("requeue", f"{site.requeue}, but RequeueExit ({found}) {has}", "fail", fix)
    if site.requeue == "none" and cluster.preempts is not None:
        fix = "requeue: self, if this site lets users requeue; else preempted jobs are lost, and you submit again"
        return Finding("requeue", "none: jobs are submitted with --no-requeue, preemption ends them", "warn", fix)
    if site.requeue == "self" and cluster.number("JobRequeue") == 0:
        return Finding("requeue", "self; JobRequeue=0 is only a default, jobs are submitted with --requeue")
    return Finding("requeue", site.requeue)


def file_findings(site: Site, policies: Sequence[PolicyFile], runtimes: Sequence[str]) -> Iterator[Finding]:
    """What can be looked at without a cluster: images, container runtime, scratch, policies in force."""
    runtime = site.container.runtime
    if runtime == "none":
        yield Finding("container", "none")
    elif runtime in runtimes:
        yield Finding("container", runtime)
    else:
        fix = f"a module may bring it on compute nodes (environment:); else container.runtime: {_or_none(runtimes)}"
        yield Finding("container", f"{runtime} is not found here", "warn", fix)
    for name, resources in classes_of(site).items():
        if resources.image:
            yield image_finding(name, resources.image)
    yield scratch_finding(site)
    yield from policy_findings(policies)


def policy_findings(policies: Sequence[PolicyFile]) -> Iterator[Finding]:
    """What the administrators bound on this machine."""
    if not policies:
        yield Finding("policy", "none on this machine")
    for file in policies:
        bounds = ", ".join(f"{key} {value}" for key, value in file.policy.model_dump(exclude_defaults=True).items())
        yield Finding("policy", f"{file.path}: {bounds or 'no bounds'}")


def _or_none(runtimes: Sequence[str]) -> str:
    return ", ".join([*runtimes, "none"])


def image_finding(name: str, image: str) -> Finding:
    """Is the image there? One in a registry is not asked for."""
    if not image.startswith("/"):
        fix = "pull it into a file once: a thousand tasks asking a registry are locked out"
        return Finding(f"{name} image", image, "warn", fix)
    if Path(image).exists():
        return Finding(f"{name} image", image)
    fix = f"build it (containers/README.md), or correct resources.{name}.image"
    return Finding(f"{name} image", f"{image}: no such file on this host", "fail", fix)


def scratch_finding(site: Site) -> Finding:
    """Node-local scratch cannot be seen from here; only that it is no shared file system, if it exists."""
    text = site.scratch or "$TMPDIR, else /tmp"
    if not re.fullmatch(r"/[^$]*", text):
        return Finding("scratch", text, "skipped", "jobs have that variable, not this host: codeio doctor --compute")
    kind = filesystem(Path(text))
    if kind in SHARED:
        fix = "compile caches and locks misbehave on shared file systems: name a folder on the node's own disk"
        return Finding("scratch", f"{text} on {kind}", "fail", fix)
    if kind is None:
        return Finding(
            "scratch", f"{text} is not on this host", "skipped", "codeio doctor --compute looks on the nodes"
        )
    return Finding("scratch", f"{text} on {kind}")
