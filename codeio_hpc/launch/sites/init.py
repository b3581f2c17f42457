"""A first site file, guessed from what the cluster says; each guess with its reason and what else it could be."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codeio_hpc.config import parse
from codeio_hpc.config.load import parse_yaml
from codeio_hpc.config.site import Site
from codeio_hpc.errors import UserError
from codeio_hpc.launch import slurm
from codeio_hpc.launch.cluster import Cluster, ask_cluster
from codeio_hpc.launch.sites.guess import guess_classes
from codeio_hpc.launch.sites.page import render

FOLDER = Path("configs/sites")


def init_site(name: str | None, force: bool, accounts: Sequence[str]) -> dict[str, Any]:
    """Write configs/sites/NAME.yaml; plain data: the path, and what is still to be settled by hand.

    Raises:
        UserError: SLURM is not here, the name cannot be one, or the file exists and ``force`` is not given.
    """
    name = name or "default"
    path = FOLDER / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"site name '{name}'", "it names a file", "use letters, digits, '.', '_' and '-'")
    _refuse_existing(path, force)
    try:
        cluster = ask_cluster()
    except slurm.NoClusterError as error:
        raise UserError(
            str(error),
            "the file is written from what SLURM says of the cluster",
            "type this on a login node; or copy configs/sites/example.yaml and fill it in",
        ) from None
    runtimes = container_runtimes()
    guesses = guess_classes(cluster, [*accounts, *_own_accounts(cluster)], slurm.try_submission)
    text = render(name, cluster, guesses, runtimes, socket.gethostname())
    parse(Site, parse_yaml(text, str(path)), str(path))
    _publish(path, text, force)
    refused = {kind: guess.refused for kind, guess in guesses.items() if guess.refused}
    absent = [kind for kind, guess in guesses.items() if guess.resources is None]
    return {"site": name, "path": str(path), "refused": refused, "absent": absent}


def init_text(done: dict[str, Any]) -> str:
    """What :func:`init_site` has done, for people."""
    lines = [f"{done['path']} is written; every value has its reason above it"]
    for kind in done["absent"]:
        lines.append(f"  {kind}: this cluster has no partition for it")
    for kind, words in done["refused"].items():
        lines.append(f"  {kind}: SLURM does not take it yet: {words}")
    if any("account" in words for words in done["refused"].values()):
        lines.append(f"  with your account: codeio site init {done['site']} --force --account NAME")
    lines.append(f"next: codeio site check --site {done['site']}")
    return "\n".join(lines)


def _refuse_existing(path: Path, force: bool) -> None:
    if os.path.lexists(path) and not force:
        raise UserError(
            f"{path} exists", "your own settings may be in it", "give another name, or --force to replace it"
        )


def _publish(path: Path, text: str, force: bool) -> None:
    from codeio_hpc.tables.files import publish_file

    try:
        publish_file(path, text.encode("utf-8"), exclusive=not force)
    except FileExistsError:  # meanwhile
        _refuse_existing(path, force)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}", "the site file is written there", "go to a folder that you may write"
        ) from None


def _own_accounts(cluster: Cluster) -> list[str]:
    """This user's accounts, where accounting tells them."""
    try:
        found = slurm.associations(pwd.getpwuid(os.getuid()).pw_name, cluster.setting("ClusterName"))
    except slurm.SchedulerError:  # no accounting, or not for users to ask: an account may not even be wanted
        return []
    return list(dict.fromkeys(association.account for association in found))


def container_runtimes() -> list[str]:
    """What can start container images here: apptainer, pyxis, and singularity by its old name only, in that order."""
    found = ["apptainer"] if shutil.which("apptainer") else ["singularity"] if shutil.which("singularity") else []
    try:
        return sorted([*found, "pyxis"]) if slurm.has_pyxis() else found
    except slurm.SchedulerError:
        return found
