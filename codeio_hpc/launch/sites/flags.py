"""From a site to what SLURM is told: sbatch flags, submitit parameters, environment lines. Pure functions."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeio_hpc.config.site import ResourceClasses, Resources, Site
from codeio_hpc.errors import UserError

if TYPE_CHECKING:
    from codeio_hpc.config.run import LaunchSettings


def resources_of(site: Site, resource_class: str) -> Resources:
    """The site's resources of a class.

    Raises:
        UserError: there is no such class, or this site does not have it.
    """
    known = list(ResourceClasses.model_fields)
    if resource_class not in known:
        raise UserError(
            f"resource class '{resource_class}'", f"the classes are {', '.join(known)}", "name one of these"
        )
    resources: Resources | None = getattr(site.resources, resource_class)
    if resources is None:
        raise UserError(
            f"site '{site.name}' has no resources.{resource_class}",
            "it says which partition, nodes and GPUs this work gets",
            f"add resources.{resource_class} to the site file; configs/sites/example.yaml shows how",
        )
    return resources


def sbatch_flags(site: Site, resource_class: str) -> list[str]:
    """Flags for sbatch that give a job of this class its allocation, one a list element."""
    resources = resources_of(site, resource_class)
    named = {
        **_allocation(resources),
        **_gpu_flag(resources),
        **_memory_flag(resources),
        "time": f"{resources.time // 60}:{resources.time % 60:02d}:00",
    }
    flags = [f"--{name}={value}" for name, value in named.items() if value is not None]
    return [*flags, _requeue_flag(site), *resources.flags]


def _allocation(resources: Resources) -> dict[str, Any]:
    return {
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "nodes": resources.nodes,
        "ntasks-per-node": resources.ranks_per_node,
        "cpus-per-task": resources.cpus_per_rank,
    }


def _gpu_flag(resources: Resources) -> dict[str, str]:
    if not resources.gpus_per_node:
        return {}
    typed = f"{resources.gpu_type}:{resources.gpus_per_node}" if resources.gpu_type else str(resources.gpus_per_node)
    return {"gres": f"gpu:{typed}"} if resources.gpu_flag == "gres" else {"gpus-per-node": typed}


def _memory_flag(resources: Resources) -> dict[str, str]:
    memory = resources.memory
    return {} if memory.value is None else {memory.style: memory.value}


def _requeue_flag(site: Site) -> str:
    return "--no-requeue" if site.requeue == "none" else "--requeue"


def submitit_parameters(site: Site, resource_class: str) -> dict[str, Any]:
    """Parameters for submitit's SlurmExecutor (names of submitit 1.5's ``_make_sbatch_string``).

    Memory, GPUs and the site's own flags go through ``additional_parameters``: submitit reads ``mem`` as a number of
    gigabytes and knows no GPU types.
    """
    resources = resources_of(site, resource_class)
    named = {
        **{name.replace("-", "_"): value for name, value in _allocation(resources).items()},
        "time": resources.time,
    }
    additional: dict[str, str | bool] = {**_gpu_flag(resources), **_memory_flag(resources)}
    for flag in (_requeue_flag(site), *resources.flags):
        name, equals, value = flag.removeprefix("--").partition("=")
        additional[name] = value if equals else True
    parameters = {name: value for name, value in named.items() if value is not None}
    return {**parameters, "additional_parameters": additional}


def task_minutes(launch: LaunchSettings, site: Site) -> int:
    """Time limit of a data task: what the run asks for, but no more than the class may have here. SLURM refuses a job
    that goes beyond its partition's limit, or lets it wait for ever; a shorter task leaves the rest to a later one."""
    return min(launch.task_time, site.resources.cpu.time)


def on_host() -> str:
    """Shell words that start this Python on the host; see :func:`interpreter`."""
    return f"run_forwarding {shlex.quote(sys.executable)}"


def interpreter(site: Site, resource_class: str, folders: Sequence[Path]) -> str:
    """Shell words that start Python for a task of this class: on the host, or in the site's container.

    Args:
        folders: what a container has to see beside the site's binds.

    The words begin with ``run_forwarding`` of slurm/lib/attempt.sh, which hands signals on from the host's batch shell.
    """
    resources = resources_of(site, resource_class)
    if resources.image is None:
        return on_host()
    binds = list(dict.fromkeys((*site.container.binds, *map(_bind, folders))))
    if site.container.runtime == "pyxis":
        mounts = ",".join(bind if ":" in bind else f"{bind}:{bind}" for bind in binds)
        words = ["srun", "--ntasks=1", f"--container-image={resources.image}", f"--container-mounts={mounts}"]
        words += ["--no-container-mount-home", *site.container.flags]
        here = ['--container-workdir="$PWD"']
    else:
        words = _apptainer(site, resources, exported(site), ["--containall"], binds)
        here = ['--pwd="$PWD"', shlex.quote(resources.image)]
    # either would start in a folder of the image's
    return " ".join(["run_forwarding", *map(shlex.quote, words), *here, "python3"])


def _apptainer(
    site: Site, resources: Resources, variables: Sequence[str], flags: Sequence[str], binds: Sequence[str]
) -> list[str]:
    """Up to the image; ``in_container`` is a function of slurm/lib/attempt.sh, ``variables`` reach the inside."""
    words = ["in_container", ",".join(variables), "exec", "--cleanenv", "--no-home", *flags]
    words += ["--nv"] if resources.gpus_per_node else []
    return [*words, *(f"--bind={bind}" for bind in binds), *site.container.flags]


_OF_RANKS = ("MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "NCCL_[A-Z_]*")
"""Variables (regular expressions) that ranks in a container see besides those of SLURM, of ours, and of the site."""


def image_lines(site: Site, resource_class: str) -> list[str]:
    """For slurm/lib/common.sh: what starts Python for a rank (``program``), and what srun is told (``in_srun``), where
    training has an image.

    Ranks of a node share its /dev/shm, which NCCL uses, and its network cards: less is hidden from them than from code
    that nobody has read.
    """
    resources = resources_of(site, resource_class)
    if resource_class != "train" or resources.image is None:
        return []
    if site.container.runtime == "pyxis":
        binds = "".join(f"{bind}," if ":" in bind else f"{bind}:{bind}," for bind in site.container.binds)
        mounts = shlex.quote(f"--container-mounts={binds}") + '"$PWD:$PWD,$CODEIO_HOME/slurm:$CODEIO_HOME/slurm"'
        words = [shlex.quote(f"--container-image={resources.image}"), mounts, "--no-container-mount-home"]
        words += ['"--container-workdir=$PWD"', *map(shlex.quote, site.container.flags)]
        return [f"program=(python3) in_srun=({' '.join(words)})"]
    words = _apptainer(site, resources, [*exported(site), *_OF_RANKS], [], site.container.binds)
    words = [*map(shlex.quote, words), '"--bind=$PWD"', '"--pwd=$PWD"', shlex.quote(resources.image), "python3"]
    return [f"program=({' '.join(words)})"]


def _bind(folder: Path) -> str:
    """A folder as Apptainer and Pyxis take it.

    Raises:
        UserError: its name has characters that both read as separators.
    """
    if any(character in str(folder) for character in ",:"):
        raise UserError(
            f"folder {folder}", "a container cannot be given a folder with ',' or ':' in its name", "rename it"
        )
    return str(folder)


def environment_lines(site: Site) -> list[str]:
    """Shell lines that a job runs before anything else: caches on the node, offline flags, then the site's own.

    Compile caches and lock files do not belong on a shared file system. They lie in one folder a user and node, not a
    job: what one job compiled the next one finds, and nothing piles up. What the site's lines export wins.
    """
    scratch = site.scratch or "${TMPDIR:-/tmp}"
    lines = [
        f'export CODEIO_SCRATCH="{scratch}/codeio-$UID"',
        'export TRITON_CACHE_DIR="$CODEIO_SCRATCH/triton" TORCHINDUCTOR_CACHE_DIR="$CODEIO_SCRATCH/inductor"',
        'export TORCH_EXTENSIONS_DIR="$CODEIO_SCRATCH/extensions"',
    ]
    if site.offline:
        lines.append("export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1")
    return [*lines, *site.environment]


def exported(site: Site) -> list[str]:
    """Names that :func:`environment_lines` export, but for search paths: those lead to the host's files."""
    statements = re.findall(r"\bexport\s+([^\n;&|]*)", "\n".join(environment_lines(site)))
    names = [name for text in statements for name in re.findall(r"(?:^|\s)([A-Za-z_]\w*)(?==|\s|$)", text)]
    return list(dict.fromkeys(name for name in names if not name.endswith("PATH")))


def environment_script(site: Site, resource_class: str) -> str:
    """What batch scripts run at their start: :func:`environment_lines`, and what slurm/lib wants to know."""
    lines = [*environment_lines(site), restart_line(site, resource_class), preflight_line(site)]
    lines += image_lines(site, resource_class)
    return "\n".join(lines) + "\n"


def restart_line(site: Site, resource_class: str) -> str:
    """For slurm/lib/attempt.sh: who starts such a job again, how often, and whether preemption is announced."""
    preemption = resources_of(site, resource_class).preemption
    words = (
        f"CODEIO_REQUEUE={site.requeue} CODEIO_MAX_REQUEUES={site.max_requeues}",
        f"CODEIO_PREEMPT_MODE={preemption.mode} CODEIO_WARNED={int(preemption.warned)}"
        f" CODEIO_GRACE={preemption.grace_seconds}",
    )
    return f"export {' '.join(words)}"


def preflight_line(site: Site) -> str:
    """For slurm/lib/common.sh: whether training jobs test their nodes first, unless their submitter has said."""
    wanted = f"CODEIO_PREFLIGHT=${{CODEIO_PREFLIGHT:-{int(site.preflight)}}}"
    return f"export {wanted} CODEIO_PREFLIGHT_FLOOR={site.preflight_floor}"
