"""What an administrator demands of every run on a machine: a file that users cannot write, in one of two fixed places.

It bounds what this program does. A user with a checkout of their own can change the program: what must not happen on a
cluster has to be forbidden by the cluster (docs/cluster.md, "Site policy").
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import Field

from codeio_hpc.config.load import Settings, load_yaml, parse
from codeio_hpc.config.run import IsolationLevel
from codeio_hpc.config.site import Site
from codeio_hpc.errors import UserError

POLICY_FILES = (Path("/etc/codeio-hpc/policy.yaml"), Path(sys.prefix) / "etc" / "codeio-hpc" / "policy.yaml")
"""The machine's, and the installation's own. No variable and no option names another one: users set those."""

_STRONGEST_FIRST: tuple[str, ...] = get_args(IsolationLevel)
_CAPS = ("max_array_size", "max_tasks_at_once", "max_submissions_per_minute")


class Policy(Settings):
    """Bounds that no run configuration and no site file goes beyond."""

    minimum_isolation: IsolationLevel = "none"
    """The weakest isolation that untrusted code may get; a run that accepts less is refused."""
    max_array_size: int | None = Field(default=None, ge=1)
    """Caps the site file's setting of that name, as do the next two; None: no cap."""
    max_tasks_at_once: int | None = Field(default=None, ge=1)
    max_submissions_per_minute: int | None = Field(default=None, ge=1)
    message: str | None = None
    """Shown where something is lowered or refused: whom to ask."""


@dataclass(frozen=True)
class PolicyFile:
    """A policy and where it stands."""

    path: Path
    policy: Policy


def read_policies() -> list[PolicyFile]:
    """The policies in force. All of them hold: of each bound, the strictest.

    Raises:
        UserError: a policy file is there but cannot be read or understood. It is never passed over.
    """
    return [PolicyFile(path, parse(Policy, load_yaml(path), str(path))) for path in POLICY_FILES if _is_there(path)]


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # a folder that may not be entered: what it holds is not known
        raise UserError(
            f"{path}: {error.strerror}", "a site policy may stand there", "ask its owner to make it readable"
        ) from None
    return True


def capped(site: Site, policies: list[PolicyFile]) -> tuple[Site, list[str]]:
    """The site with what goes beyond a policy lowered to it, and one line for each setting that was."""
    lowered: dict[str, int] = {}
    lines = []
    for name in _CAPS:
        caps = [(cap, file) for file in policies if (cap := getattr(file.policy, name)) is not None]
        if not caps:
            continue
        cap, file = min(caps, key=lambda pair: pair[0])
        asked = getattr(site, name)
        if asked > cap:
            lowered[name] = cap
            lines.append(f"{name} {asked} is lowered to {cap} by {file.path}{_said(file.policy)}")
    return site.model_copy(update=lowered), lines


def demanded_isolation(asked: str, policies: list[PolicyFile]) -> str:
    """The strongest of what a run and the policies demand."""
    demands = [asked, *(file.policy.minimum_isolation for file in policies)]
    return min(demands, key=_STRONGEST_FIRST.index)


def refuse_weak_isolation(asked: str, policies: list[PolicyFile] | None = None) -> None:
    """Hold the least isolation that a run accepts against the policies (default: those in force).

    Raises:
        UserError: a policy demands more; it is named.
    """
    for file in read_policies() if policies is None else policies:
        floor = file.policy.minimum_isolation
        if asked != floor and demanded_isolation(asked, [file]) == floor:
            raise UserError(
                f"isolation '{asked}' would be accepted for untrusted code",
                f"{file.path} demands at least '{floor}' on this machine{_said(file.policy)}",
                f"ask for it: sandbox.minimum={floor} in the run's configuration (codeio exec: --isolation {floor})",
            )


def _said(policy: Policy) -> str:
    return f" ({policy.message})" if policy.message else ""
