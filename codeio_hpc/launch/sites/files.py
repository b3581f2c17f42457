"""Which file is meant by a path or a name, and the site as far as the administrators' policy goes along."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codeio_hpc.config import load_yaml, parse
from codeio_hpc.errors import UserError

if TYPE_CHECKING:
    from codeio_hpc.config.site import Site

MACHINE_SITES = Path("/etc/codeio-hpc/sites")
"""Where administrators put the site files of a shared installation."""


def config_folders(kind: str) -> list[Path]:
    """Where configurations of a kind (a folder of configs/) are looked for: here, then in the project's folder."""
    home = os.environ.get("CODEIO_HOME")
    return [Path("configs") / kind, *([Path(home) / "configs" / kind] if home else [])]


def site_folders() -> list[Path]:
    """Where a site of that name is looked for, in this order: here, in the project's folder, on the machine."""
    return [*config_folders("sites"), MACHINE_SITES]


def find_file(name: str | Path) -> Path:
    """A file or folder by the path that a person typed or wrote into a configuration: seen from here, else from the
    project's folder (CODEIO_HOME), so that users of a shared installation may name what it brings. What is in neither
    is meant here."""
    there = os.path.join(os.environ.get("CODEIO_HOME", ""), name)
    return Path(there) if os.path.exists(there) and not os.path.exists(name) else Path(name)


def load_site(name: str) -> Site:
    """The site of that name or file, within the policies of this machine.

    What a policy lowers is said on stderr.

    Raises:
        UserError: there is no such site, or its file or a policy file is wrong.
    """
    from codeio_hpc.config.policy import capped, read_policies
    from codeio_hpc.config.site import Site

    path = find_site(name)
    site, lowered = capped(parse(Site, load_yaml(path), str(path)), read_policies())
    for line in lowered:
        print(f"codeio: {path}: {line}", file=sys.stderr)
    return site


def chosen_site(name: str | None) -> str:
    """The site that is meant when ``name`` was given or nothing: $CODEIO_SITE, else ``default``."""
    return name or os.environ.get("CODEIO_SITE") or "default"


def find_site(name: str) -> Path:
    """The file of a site: a path, or a name in one of :func:`site_folders`.

    Raises:
        UserError: no folder has it; says which there are.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return find_file(name)
    folders = site_folders()
    for folder in folders:
        if (folder / f"{name}.yaml").exists():
            return folder / f"{name}.yaml"
    known = sorted({entry.stem for folder in folders for entry in folder.glob("*.yaml")})
    raise UserError(
        f"site '{name}'",
        f"there is no {name}.yaml in {', '.join(map(str, folders))}",
        f"known sites: {', '.join(known) or 'none'}; or have one written: codeio site init {name}",
    )
