"""Container runtimes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from codeio_hpc.config.site import Site
from codeio_hpc.launch import slurm
from codeio_hpc.launch.doctor.finding import Finding


def container_findings(apptainer: str | None, pyxis: bool | None, site: Site | None) -> Iterator[Finding]:
    """Is the runtime that the site names here? ``apptainer``: its version; ``pyxis`` is None without SLURM."""
    wanted = site.container.runtime if site else "none"
    modules = "a module may bring it: put `module load …` into environment: of the site file"
    if apptainer is not None:
        yield Finding("Apptainer", apptainer)
    elif wanted == "apptainer":
        yield Finding("Apptainer", "not found, but the site file names it", "fail", modules)
    else:
        yield Finding("Apptainer", "not found; nothing here needs it", "skipped")
    if pyxis:
        yield Finding("Pyxis", "srun has --container-image")
    elif wanted == "pyxis":
        fix = "container.runtime: apptainer, or none"
        yield Finding("Pyxis", "srun has no --container-image, but the site file names it", "fail", fix)
    else:
        yield Finding("Pyxis", "no SLURM here" if pyxis is None else "srun has no --container-image", "skipped")


def apptainer_version() -> str | None:
    """What `apptainer --version` says; None if it is not here or does not start."""
    try:
        done = subprocess.run(["apptainer", "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def pyxis() -> bool | None:
    """Whether srun starts images by itself; None if there is no srun."""
    try:
        return slurm.has_pyxis()
    except slurm.SchedulerError:
        return None
