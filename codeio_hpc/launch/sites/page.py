"""A site file as text: each guess with the reason for it, and with what else it could be. Pure functions."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import yaml

from codeio_hpc.config.load import parse_yaml
from codeio_hpc.config.site import Resources
from codeio_hpc.launch.cluster import Cluster
from codeio_hpc.launch.notice import SAVED
from codeio_hpc.launch.sites.guess import Guess

_WIDTH = 116


@dataclass
class Page:
    """Lines of YAML, each setting with the reason for it above."""

    lines: list[str] = field(default_factory=list)

    def note(self, text: str, indent: int = 0) -> None:
        """A comment, broken into lines."""
        margin = " " * indent + "# "
        self.lines += textwrap.wrap(text, _WIDTH, initial_indent=margin, subsequent_indent=margin)

    def set(self, key: str, value: object, why: str, indent: int = 0) -> None:
        """A setting; None: commented out, with the reason."""
        if why:
            self.note(why, indent)
        text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
        if parse_yaml(text, key) != value:  # our reader and PyYAML's writer do not agree what a number is: 1e5
            text = json.dumps(value)
        self.lines.append(" " * indent + f"{key}: {text}")

    def leave_out(self, line: str, why: str, indent: int = 0) -> None:
        """A setting that is not made, ready to be."""
        self.note(why, indent)
        self.lines.append(" " * indent + f"# {line}")


_PURPOSE = {
    "cpu": "One task of a data array; also the small jobs that submit others.",
    "gpu": "One process with GPUs: evaluation, serving.",
    "train": "All nodes and ranks of one training job.",
}


def render(name: str, cluster: Cluster, guesses: dict[str, Guess], runtimes: Sequence[str], host: str) -> str:
    """The site file as text."""
    page = Page()
    title = cluster.setting("ClusterName") or "a cluster"
    page.note(
        f"Site file of {title}, guessed by `codeio site init` from what SLURM {cluster.setting('SLURM_VERSION')} said "
        f"on {host}. The reason for each value stands above it. After any change: codeio site check --site {name}"
    )
    page.set("name", name, "")
    page.lines += ["", "resources:"]
    for kind, guess in guesses.items():
        _render_class(page, kind, guess, cluster)
        page.lines.append("")
    _render_container(page, runtimes)
    _render_limits(page, cluster)
    _render_nodes(page, cluster)
    return "\n".join(page.lines) + "\n"


def _render_class(page: Page, kind: str, guess: Guess, cluster: Cluster) -> None:
    page.note(_PURPOSE[kind], 2)
    resources = guess.resources
    if resources is None:
        page.note(f"Left out: no partition that you see has {'nodes' if kind == 'cpu' else 'GPUs'}.", 2)
        if kind == "cpu":
            page.lines.append("  cpu: {time: 4h}")
        return
    if guess.refused:
        page.note(f"NOT ACCEPTED YET. SLURM says: {guess.refused}", 2)
    page.lines.append(f"  {kind}:")
    page.set("partition", resources.partition, _why_partition(resources, guess, cluster), 4)
    _render_account(page, resources)
    _render_shape(page, kind, resources, cluster)
    _render_memory(page, kind, resources, cluster)
    page.set(
        "time", f"{resources.time // 60}h" if resources.time % 60 == 0 else f"{resources.time}m", _WHY_TIME[kind], 4
    )
    _render_preemption(page, resources, cluster)
    page.leave_out("qos: NAME", "Only where the partition wants one.", 4)


_WHY_TIME = {
    "cpu": "The most a job gets; tasks take the run's launch.task_time if that is less. Shorter jobs start sooner.",
    "gpu": "Evaluations take minutes to hours. Shorter jobs start sooner.",
    "train": "Before its end training saves and is started again: this bounds no training. Shorter jobs start sooner.",
}


def _why_partition(resources: Resources, guess: Guess, cluster: Cluster) -> str:
    mode = resources.preemption.mode
    default = cluster.partition(None)
    if mode == "requeue":
        why = "Its jobs may be preempted and are requeued; this work continues then, and starts sooner here."
    elif default is not None and default.name == resources.partition:
        why = "The cluster's default."
    else:
        why = "The largest of those that fit."
    named = [f"{other} (the default)" if default and other == default.name else other for other in guess.others[:6]]
    return f"{why} Others that fit: {', '.join(named)}." if named else f"{why} The only one that fits."


def _render_account(page: Page, resources: Resources) -> None:
    if resources.account:
        page.set("account", resources.account, "Without it SLURM refuses; the first of yours that it took.", 4)
    else:
        page.leave_out("account: NAME", "SLURM takes the job without one; it may then go to your default account.", 4)


def _render_shape(page: Page, kind: str, resources: Resources, cluster: Cluster) -> None:
    partition = cluster.partition(resources.partition)
    assert partition is not None, "it was guessed from the cluster's own"
    node = partition.smallest(gpus=kind != "cpu")
    if kind == "train":
        page.set("nodes", resources.nodes, "1 is easier to get; more need a fast network between them.", 4)
        page.set("ranks_per_node", resources.ranks_per_node, "One process a GPU.", 4)
    if resources.gpus_per_node:
        why = "All of a node's." if kind == "train" else "One is enough for the models that are trained here."
        page.set("gpus_per_node", resources.gpus_per_node, why, 4)
        if node.gpu_type:
            page.leave_out(f"gpu_type: {node.gpu_type}", "Only where a partition has several kinds.", 4)
        reason = f"SelectType is {cluster.setting('SelectType')}. The other way: "
        other = "gres" if resources.gpu_flag == "gpus-per-node" else "gpus-per-node"
        page.set("gpu_flag", resources.gpu_flag, reason + other, 4)
        why = f"A node's {node.cpus} divided among its GPUs."
    else:
        why = f"One sandbox runs on each; the smallest node has {node.cpus}."
        if setting := cluster.whole_nodes(partition):
            why = f"A job gets whole nodes ({setting}), so all of them: one sandbox runs on each."
    page.set("cpus_per_rank", resources.cpus_per_rank, why, 4)


def _render_memory(page: Page, kind: str, resources: Resources, cluster: Cluster) -> None:
    memory = resources.memory
    if memory.value is None:
        partition = cluster.partition(resources.partition)
        why = "SLURM refused --mem-per-cpu and --mem: the site gives memory by itself."
        if partition and partition.smallest(gpus=kind != "cpu").memory_mb == 1:
            why = "SLURM does not know how much its nodes have (RealMemory is 1), so none is asked for."
        page.set("memory", {"style": "none"}, why, 4)
        return
    refused = "" if memory.style == "mem-per-cpu" else "SLURM refused --mem-per-cpu. "
    why = f"{refused}These CPUs' share of a node, a tenth less. Others: mem (a node), mem-per-gpu, none."
    page.set("memory", {"style": memory.style, "value": memory.value}, why, 4)


def _render_preemption(page: Page, resources: Resources, cluster: Cluster) -> None:
    said = resources.preemption
    facts = f"PreemptType is {cluster.setting('PreemptType') or 'not set'}"
    if cluster.preempts == "qos":
        facts += (
            "; the QOS decides, and these are only the defaults: sacctmgr show qos format=name,preemptmode,gracetime"
        )
    elif said.mode == "off":
        facts += "; nobody comes before jobs on this partition"
    elif said.grace_seconds == 0:
        facts += "; no grace: SIGTERM at once, SIGKILL after KillWait"
    page.set("preemption", said.model_dump(mode="json"), f"{facts}.", 4)


def _render_container(page: Page, runtimes: Sequence[str]) -> None:
    runtime = next((found for found in runtimes if found != "singularity"), "none")
    if runtime == "none" and runtimes:
        why = "Found here: singularity, whose newer versions bring the command `apptainer`; that is what is called."
    elif runtimes:
        why = f"Found here: {', '.join(runtimes)}. Used where the class cpu or train names an image."
    else:
        why = "Neither apptainer nor srun --container-image is found here; a module may bring one on compute nodes."
    page.note(why)
    page.lines += ["container:", f"  runtime: {runtime}", ""]


def _render_limits(page: Page, cluster: Cluster) -> None:
    most = cluster.max_array_tasks or 1001
    page.set("max_array_size", most, "MaxArraySize, or max_array_tasks of SchedulerParameters where that is less.")
    page.set("max_tasks_at_once", 64, "Nothing says how many are welcome; a number that offends nobody on most sites.")
    page.lines.append("")
    owner, why = _requeue(cluster)
    page.set("requeue", owner, why)
    page.leave_out(
        "preflight: true", "Training jobs test their nodes first, and start again without slow or broken ones."
    )
    page.lines.append("")


def _requeue(cluster: Cluster) -> tuple[str, str]:
    codes = cluster.setting("RequeueExit")
    if cluster.requeue_owner == "slurm":
        return "slurm", f"RequeueExit is {codes}: SLURM itself starts a job again that ended with {SAVED}."
    why = f"RequeueExit is {codes or 'not set'}, without {SAVED}: the batch script requeues. Others: slurm, none."
    if cluster.number("JobRequeue") == 0:
        why += " JobRequeue is 0, which is only the default: jobs are submitted with --requeue."
    return "self", why


def _render_nodes(page: Page, cluster: Cluster) -> None:
    files = cluster.setting("TmpFS") or "/tmp"
    if files != "/tmp":
        page.set(
            "scratch", files, "TmpFS of slurm.conf: a folder on each node's own disk. Else: ${SLURM_TMPDIR:-/tmp}."
        )
    else:
        why = (
            "Without it jobs use $TMPDIR, else /tmp. It must be on the node's own disk: codeio doctor --compute looks."
        )
        page.leave_out("scratch: ${SLURM_TMPDIR:-/tmp}", why)
    page.set("offline", True, "Not known from here; codeio doctor --compute says whether nodes reach the network.")
    page.lines.append("")
    page.leave_out("environment:", "Shell lines that every job runs first: modules, network settings of NCCL.")
    page.lines += ["#   - module load cuda/12.4", "#   - export NCCL_SOCKET_IFNAME=ib0"]
