"""What SLURM's configuration means for this program. Pure functions of one answer of the controller."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from codeio_hpc.config.site import Site
from codeio_hpc.launch.cluster import Cluster
from codeio_hpc.launch.doctor.finding import Finding
from codeio_hpc.launch.notice import SAVED
from codeio_hpc.launch.slurm import Association

LINES = (
    *("slurm version", "MaxArraySize", "max_array_tasks", "MaxJobCount", "association limits", "JobRequeue"),
    *("RequeueExit", "JobFileAppend", "PreemptType", "PreemptMode", "signal at preemption", "GraceTime", "KillWait"),
    *("requeue delay", "MinJobAge", "accounting", "process tracking"),
)
"""Every line that :func:`scheduler_findings` gives, in its order."""

Associations = Sequence[Association] | str
"""Those of the user, or why they are not known."""


def scheduler_findings(cluster: Cluster, site: Site | None, associations: Associations) -> Iterator[Finding]:
    """All that one look at slurm.conf and the partitions says."""
    yield version(cluster)
    yield from array_limits(cluster, site)
    yield association_limits(associations, site)
    yield from requeueing(cluster, site)
    yield from preemption(cluster)
    yield from timing(cluster)
    yield accounting(cluster)
    yield process_tracking(cluster)


def no_scheduler(why: str) -> Iterator[Finding]:
    """The same lines where there is no SLURM to ask."""
    for line in LINES:
        yield Finding(line, why, "skipped")


def version(cluster: Cluster) -> Finding:
    """Which SLURM; those that need something of us."""
    text = cluster.setting("SLURM_VERSION") or "unknown"
    found = re.match(r"(\d+)\.(\d+)", text)
    number = (int(found[1]), int(found[2])) if found else (99, 0)
    if number < (20, 11):
        return Finding("slurm version", text, "warn", "untested: this program is tried with 22.05 and later")
    if (22, 5) <= number <= (23, 2):
        text += "; srun does not inherit --cpus-per-task: the batch scripts export SRUN_CPUS_PER_TASK"
    if number == (24, 11):
        text += "; a job that requeues itself while it is preempted runs once more: tasks bear that"
    return Finding("slurm version", text)


def array_limits(cluster: Cluster, site: Site | None) -> Iterator[Finding]:
    """How large an array may be: the largest index, the elements of an array, the jobs of the whole cluster."""
    asked = site.max_array_size if site else None
    yield _at_least("MaxArraySize", cluster.number("MaxArraySize"), asked)
    yield _at_least("max_array_tasks", cluster.max_array_tasks, asked)
    yield _at_least("MaxJobCount", cluster.number("MaxJobCount"), asked)


def _at_least(name: str, limit: int | None, asked: int | None) -> Finding:
    if limit is None:
        return Finding(name, "not told", "skipped")
    if asked is not None and asked > limit:
        return Finding(name, f"{limit}; the site file says {asked}", "fail", f"max_array_size: {limit}")
    return Finding(name, str(limit))


def association_limits(associations: Associations, site: Site | None) -> Finding:
    """What accounting lets this user submit and run; each element of an array counts."""
    if isinstance(associations, str):
        return Finding("association limits", associations, "skipped")
    if not associations:
        fix = "ask for an account, if jobs are refused"
        return Finding("association limits", "this user has no association", "warn", fix)
    parts = [
        f"{each.account}: {_number(each.max_submitted)} submitted, {_number(each.max_jobs)} running"
        for each in associations
    ]
    account = site.resources.cpu.account if site else None  # arrays are of this class
    concerned = [each for each in associations if account in (None, each.account)]
    limits = [each.max_submitted for each in concerned if each.max_submitted is not None]
    if site and limits and min(limits) <= site.max_array_size:
        # the job that steers on is submitted beside the array
        fix = f"max_array_size: {max(1, min(limits) - 1)}, so that an array is not refused (AssocMaxSubmitJobLimit)"
        return Finding("association limits", "; ".join(parts), "warn", fix)
    return Finding("association limits", "; ".join(parts))


def _number(limit: int | None) -> str:
    return "any number" if limit is None else str(limit)


def requeueing(cluster: Cluster, site: Site | None) -> Iterator[Finding]:
    """Who starts a job again, and whether its log goes on."""
    owner = site.requeue if site else None
    default = cluster.number("JobRequeue")
    value = "1" if default else "0: jobs must ask for it, as ours do (--requeue)"
    yield Finding("JobRequeue", value)
    codes = cluster.setting("RequeueExit") or "not set"
    has = f"has {SAVED}" if cluster.requeue_owner == "slurm" else f"without {SAVED}"
    if owner not in (None, "none", cluster.requeue_owner):
        fix = f"requeue: {cluster.requeue_owner} in the site file"
        yield Finding("RequeueExit", f"{codes}, {has}; the site file says {owner}", "fail", fix)
    else:
        yield Finding("RequeueExit", f"{codes}, {has}")
    append = cluster.number("JobFileAppend")
    yield Finding("JobFileAppend", f"{append}; our jobs append to their logs in any case (--open-mode=append)")


def preemption(cluster: Cluster) -> Iterator[Finding]:
    """Who gives way, how, and with what warning."""
    yield Finding("PreemptType", cluster.setting("PreemptType") or "preempt/none")
    mode = cluster.setting("PreemptMode") or "OFF"
    partitions = [each for each in cluster.partitions if cluster.preemption(each).mode != "off"]
    modes = ", ".join(f"{each.name} {each.preempt_mode}" for each in partitions)
    cancelling = [each.name for each in partitions if cluster.preemption(each).mode == "cancel"]
    if cancelling:
        fix = f"on {', '.join(cancelling)} --requeue does nothing: a preempted job is to be submitted again"
        yield Finding("PreemptMode", f"{mode}; {modes}", "warn", fix)
    else:
        yield Finding("PreemptMode", f"{mode}; {modes or 'no partition gives way'}")
    if cluster.preempts is None:
        yield Finding("signal at preemption", "nobody is preempted")
        yield Finding("GraceTime", "nobody is preempted")
        return
    sent = cluster.signals_at_preemption
    value = "that of --signal (send_user_signal)" if sent else "SIGTERM only; it is heeded like any other"
    yield Finding("signal at preemption", value)
    graces = ", ".join(f"{each.name} {each.grace_seconds} s" for each in partitions) or "no partition gives way"
    none = [each.name for each in partitions if not each.grace_seconds]
    if none:
        fix = f"on {', '.join(none)} SIGKILL follows after KillWait: see the lines of the notice planner (--run)"
        yield Finding("GraceTime", graces, "warn", fix)
    else:
        yield Finding("GraceTime", graces)


def timing(cluster: Cluster) -> Iterator[Finding]:
    """Seconds between signals, until a requeued job may start, and for which an ended job is remembered."""
    yield Finding("KillWait", f"{cluster.number('KillWait') or 0} s from SIGTERM to SIGKILL")
    expire = cluster.option("AuthInfo", "cred_expire")
    delay = int(expire) if expire and expire.isdigit() else 120
    yield Finding("requeue delay", f"{delay + 1} s until a requeued job may start (cred_expire)")
    age = cluster.number("MinJobAge")
    if age is not None and age < 60:
        fix = "a job that waits for another (afterany) must be submitted while that one is remembered; ask for 300"
        yield Finding("MinJobAge", f"{age} s", "warn", fix)
    else:
        yield Finding("MinJobAge", f"{'not told' if age is None else age} s")


def accounting(cluster: Cluster) -> Finding:
    """Is there a record of past jobs? We keep our own."""
    kind = (cluster.setting("AccountingStorageType") or "accounting_storage/none").removeprefix("accounting_storage/")
    return Finding(
        "accounting", "none: sacct knows nothing; attempts/ in the run folder does" if kind == "none" else kind
    )


def process_tracking(cluster: Cluster) -> Finding:
    """Whether a job's processes can outlive it, and whether its memory limit is one."""
    tracked = (cluster.setting("ProctrackType") or "unknown").removeprefix("proctrack/")
    by_cgroups = "cgroup" in (cluster.setting("TaskPlugin") or "")
    # of cgroup.conf, whose default is no; not every SLURM tells it
    bound = cluster.setting("ConstrainRAMSpace") if by_cgroups else "no"
    how = {"yes": "", None: "perhaps not "}.get(bound, "not ")
    value = f"{tracked}; memory limits are {how}enforced by cgroups"
    if tracked != "cgroup":
        fix = "processes may outlive their job here: stale owners stop by themselves, but may hold memory for a while"
        return Finding("process tracking", value, "warn", fix)
    if how:
        fix = "a job that uses more than it asked for may end others on its node: ask for enough (memory:)"
        return Finding("process tracking", value, "warn", fix)
    return Finding("process tracking", value)
