"""What is looked at on one host, wherever that is: the login host or a compute node."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from codeio_hpc.config.site import Resources, Site
from codeio_hpc.launch.doctor.containers import apptainer_version, container_findings, pyxis
from codeio_hpc.launch.doctor.finding import Finding
from codeio_hpc.launch.doctor.gpu import gpu_findings
from codeio_hpc.launch.doctor.isolation import cgroups, landlock, sandbox_findings, user_namespaces
from codeio_hpc.launch.doctor.storage import publishing, scratch, scratch_of, space

_OUTSIDE = ("huggingface.co", 443)
_SECONDS = 5.0


def host_findings(site: Site | None, resources: Resources | None, runs: Path, minimum: str) -> list[Finding]:
    """Containers, isolation, storage, GPUs and network of this host. ``resources``: of the class whose node it is."""
    from codeio_hpc.sandbox import probe

    return [
        *container_findings(apptainer_version(), pyxis(), site),
        *sandbox_findings(probe(), minimum),
        user_namespaces(),
        landlock(),
        cgroups(),
        publishing(runs),
        *space(runs),
        *scratch(scratch_of(os.environ)),
        *gpu_findings(resources.image if resources else None, bool(resources and resources.gpus_per_node)),
        network_finding(reaches_outside(os.environ), site),
    ]


def reaches_outside(environ: Mapping[str, str]) -> bool:
    """Whether the hub of models can be connected to, or the proxy that leads there. Nothing is sent."""
    proxy = environ.get("https_proxy") or environ.get("HTTPS_PROXY")
    target = urlsplit(proxy) if proxy else None
    address = (target.hostname, target.port or 3128) if target and target.hostname else _OUTSIDE
    reached = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=_SECONDS).close()
        except OSError:
            return
        reached.set()

    # looking up a name has no time limit of its own, and nodes without a network have the slowest resolvers
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(_SECONDS)
    return reached.is_set()


def network_finding(reached: bool, site: Site | None) -> Finding:
    """Is ``offline`` of the site file right?"""
    value = f"{_OUTSIDE[0]} {'can' if reached else 'cannot'} be reached"
    if site is None or site.offline != reached:
        return Finding("outbound network", value)
    if reached:
        return Finding("outbound network", f"{value}; offline: true keeps jobs from trying", "pass")
    return Finding("outbound network", value, "fail", "offline: true in the site file, else jobs wait for time-outs")
