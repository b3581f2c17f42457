"""The same check-up on a compute node: one job of each resource class, and whether both hosts see the same files."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codeio_hpc.config.site import Site
from codeio_hpc.launch import slurm
from codeio_hpc.launch.doctor.finding import Finding, as_data, from_data, located
from codeio_hpc.launch.doctor.host import host_findings
from codeio_hpc.launch.sites.flags import environment_script, resources_of, sbatch_flags
from codeio_hpc.tables.files import publish_file

_JOB_MINUTES = 5
_PATIENCE = 20.0
"""Seconds until another host's file must be seen. NFS remembers for longer what it has looked up (nfs(5), acdirmax),
but neither host has asked for these names before the other one made them."""
_SKEW_SECONDS = 1.0
_BUSY = ("Requested nodes are busy", "Immediate execution impossible")
"""What srun --immediate says where no node is free (slurm_errno.c)."""


def compute_findings(site: Site, site_name: str, resource_class: str, runs: Path) -> list[Finding]:
    """What one node of a resource class says of itself, and how it and this host see each other."""
    meeting = runs.resolve() / f".doctor-{secrets.token_hex(6)}"
    begun = time.time()
    try:
        publish_file(meeting / "login", b"here")
        command = ["bash", "-c", _script(site, site_name, resource_class, runs, meeting)]
        text = slurm.run_on_node(node_flags(site, resource_class), command, 60 * _JOB_MINUTES)
        ended = time.time()
        answer = read_answer(text)
        seconds = None if answer["saw_login_after"] is None else _wait_for(meeting / "node", _PATIENCE)
    except OSError as error:
        fix = "put runs where you may write: --run DIR"
        return [Finding("compute node", f"not asked: {error}", "fail", fix, f"a node ({resource_class})")]
    except (slurm.SchedulerError, ValueError) as error:
        return [replace(not_had(error), where=f"a node ({resource_class})")]
    finally:
        shutil.rmtree(meeting, ignore_errors=True)
    findings = [
        Finding("compute node", f"answered after {ended - begun:.1f} s"),
        visibility(answer["saw_login_after"], seconds),
        clock_skew(begun, answer["time"], ended),
        *from_data(answer),
    ]
    return located(findings, f"{answer['host']} ({resource_class})")


def not_had(error: Exception) -> Finding:
    """Why no node has answered; that all are at work is nobody's mistake."""
    busy = isinstance(error, slurm.SchedulerBusyError) or any(words in str(error) for words in _BUSY)
    if busy:
        return Finding("compute node", f"not looked at: {error}", "skipped", "try again when nodes are free")
    fix = "`codeio site check` says whether SLURM takes such jobs at all"
    return Finding("compute node", str(error), "fail", fix)


def node_flags(site: Site, resource_class: str) -> list[str]:
    """The class's flags as srun takes them, for one process on one node and a few minutes."""
    resources = resources_of(site, resource_class)
    small = resources.model_copy(update={"nodes": 1, "ranks_per_node": 1, "time": _JOB_MINUTES})
    classes = site.resources.model_copy(update={resource_class: small})
    flags = sbatch_flags(site.model_copy(update={"resources": classes}), resource_class)
    return [flag for flag in flags if flag not in ("--requeue", "--no-requeue")]  # sbatch's alone


def _script(site: Site, site_name: str, resource_class: str, runs: Path, meeting: Path) -> str:
    words = [sys.executable, "-m", "codeio_hpc", "doctor", "--here", "--json", "--site", site_name]
    words += ["--class", resource_class, "--run", str(runs.resolve()), "--meeting", str(meeting)]
    # what the site's lines print is not the answer
    return f"{{ {environment_script(site, resource_class)} }} >&2\nexec {shlex.join(words)}"


def here(site: Site, resource_class: str, runs: Path, minimum: str, meeting: Path) -> dict[str, Any]:
    """The answer of a compute node, as plain data."""
    now = time.time()
    seen = _wait_for(meeting / "login", _PATIENCE)
    findings = host_findings(site, resources_of(site, resource_class), runs, minimum)
    if resource_class == "cpu":  # of which the jobs are that steer a build on
        findings.append(submission_from_nodes(slurm.try_submission(sbatch_flags(site, "cpu"))))
    if seen is not None:  # else the folder is not the login host's: nobody would take the file away
        publish_file(meeting / "node", b"here")
    return {"host": os.uname().nodename, "time": now, "saw_login_after": seen, **as_data(findings)}


def submission_from_nodes(refused: str | None) -> Finding:
    """May a job submit jobs? Some sites let only login hosts. ``refused``: why a trial on the node was not taken."""
    if refused is None:
        return Finding("submission from nodes", "accepted (sbatch --test-only)")
    fix = "if only login hosts may submit, a build stops after each round: codeio resume RUN --site NAME goes on"
    return Finding("submission from nodes", refused, "warn", fix)


def _wait_for(path: Path, seconds: float) -> float | None:
    """After how many seconds the file was there with content; None if it was not in time."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        try:
            if path.read_bytes():
                return time.monotonic() - start
        except OSError:
            pass
        time.sleep(0.1)
    return None


def read_answer(text: str) -> dict[str, Any]:
    """The node's answer in what its job printed; a prolog may have printed too.

    Raises:
        ValueError: there is none.
    """
    start = f"\n{text}".rfind("\n{\n")
    if start < 0:
        raise ValueError(f"the node printed no answer: {text[-300:].strip() or 'nothing'}")
    answer: dict[str, Any] = json.loads(text[start:])
    return answer


def visibility(node_saw: float | None, login_saw: float | None) -> Finding:
    """Does a file that one host publishes appear on the other?"""
    name = "run folder, both ways"
    if node_saw is None or login_saw is None:
        blind = (
            "the node does not see the login host's file" if node_saw is None else "this host does not see the node's"
        )
        fix = "put runs on a file system that all nodes share: --run DIR"
        return Finding(name, f"{blind} within {_PATIENCE:.0f} s", "fail", fix)
    value = f"seen on the node after {node_saw:.1f} s, back here after {login_saw:.1f} s"
    if max(node_saw, login_saw) > 5:
        return Finding(name, value, "warn", "slow, but right: what is published appears late, and is never done twice")
    return Finding(name, value)


def clock_skew(begun: float, on_node: float, ended: float) -> Finding:
    """How far the node's clock is outside the time in which it was asked: at least that much it is wrong."""
    skew = max(begun - on_node, on_node - ended, 0.0)
    if skew > _SKEW_SECONDS:
        fix = "have the clocks synchronised: dates of files and logs of several nodes do not compare"
        return Finding("clock skew", f"at least {skew:.1f} s", "warn", fix)
    return Finding("clock skew", f"none that is more than the {ended - begun:.1f} s of the call")


def compute_classes(site: Site, classes: Sequence[str], site_name: str, runs: Path) -> list[Finding]:
    """:func:`compute_findings` of each class, one after the other."""
    return [finding for each in classes for finding in compute_findings(site, site_name, each, runs)]
