"""From a site to what SLURM is told: sbatch flags, submitit parameters, environment lines. Pure functions."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from codeio_hpc.config.site import ResourceClasses, Resources, Site
from codeio_hpc.errors import UserError


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


def on_host() -> str:
    """Shell words that start this Python on the host; see :func:`interpreter`."""
    return f"run_forwarding {shlex.quote(sys.executable)}"


def interpreter(site: Site, resource_class: str, run: Path) -> str:
    """Shell words that start Python for a task of this class: on the host, or in the site's container.

    The words begin with ``run_forwarding`` of slurm/lib/attempt.sh, which hands signals on from the host's batch shell.
    """
    resources = resources_of(site, resource_class)
    if resources.image is None:
        return on_host()
    image, flags = shlex.quote(resources.image), " ".join(map(shlex.quote, site.container.flags))
    folders = [*site.container.binds, str(run)]
    if site.container.runtime == "pyxis":
        mounts = shlex.quote(",".join(folder if ":" in folder else f"{folder}:{folder}" for folder in folders))
        words = f"srun --ntasks=1 --container-image={image} --container-mounts={mounts} --no-container-mount-home"
    else:
        binds = " ".join(f"--bind={shlex.quote(folder)}" for folder in folders)
        nv = " --nv" if resources.gpus_per_node else ""
        words = f"in_container exec --cleanenv --no-home --containall{nv} {binds} {image}"
    return " ".join(word for word in ("run_forwarding", words, flags, "python3") if word)


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


def environment_script(site: Site, resource_class: str) -> str:
    """What batch scripts run at their start: :func:`environment_lines`, and what slurm/lib/attempt.sh wants to know."""
    return "\n".join([*environment_lines(site), restart_line(site, resource_class)]) + "\n"


def restart_line(site: Site, resource_class: str) -> str:
    """For slurm/lib/attempt.sh: who starts such a job again, how often, and whether preemption is announced."""
    warned = int(resources_of(site, resource_class).preemption.warned)
    return f"export CODEIO_REQUEUE={site.requeue} CODEIO_MAX_REQUEUES={site.max_requeues} CODEIO_WARNED={warned}"
