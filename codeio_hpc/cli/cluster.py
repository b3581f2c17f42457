"""The cluster: site, doctor, preflight, drill."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from codeio_hpc.cli.verb import FAILED, INTERRUPTED, Verbs, add_verb, output
from codeio_hpc.errors import UserError


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this file."""
    site = verbs.add_parser("site", help="facts of a cluster").add_subparsers(metavar="COMMAND", required=True)
    init = add_verb(
        site, "init", _site_init, "write a site file from what the cluster says, each guess with its reason"
    )
    init.add_argument("name", nargs="?", metavar="NAME", help="of configs/sites/NAME.yaml (default: default)")
    init.add_argument("--force", action="store_true", help="replace the file if it is there")
    init.add_argument("--account", action="append", default=[], metavar="NAME", help="an account to try")
    check = add_verb(site, "check", _site_check, "hold a site file against the cluster")
    flags = add_verb(site, "flags", _site_flags, "the sbatch flags of a resource class, one a line", json=False)
    flags.add_argument("resource", metavar="CLASS", help="a resource class of the site file")
    text = "the shell lines that a job on this site runs first"
    environment = add_verb(site, "environment", _site_environment, text, json=False)
    environment.add_argument("resource", nargs="?", default="cpu", metavar="CLASS", help="default: cpu")
    for verb in (check, flags, environment):
        verb.add_argument("--site", metavar="NAME", help="default: $CODEIO_SITE, else the site named 'default'")

    doctor = add_verb(verbs, "doctor", _doctor, "look at SLURM, this host and compute nodes, and say what to change")
    text = "only the sandbox of this host: each isolation level, what it needs, and why it cannot be had"
    doctor.add_argument("part", nargs="?", choices=["sandbox"], metavar="sandbox", help=text)
    doctor.add_argument("--site", metavar="NAME", help="default: $CODEIO_SITE, else the site named 'default'")
    doctor.add_argument("--run", type=Path, metavar="DIR", help="a run folder: its file system, its training's times")
    doctor.add_argument("--compute", action="store_true", help="also on one compute node of each resource class")
    # what a compute node is told by the login host
    doctor.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    doctor.add_argument("--class", dest="resource", default="cpu", help=argparse.SUPPRESS)
    doctor.add_argument("--meeting", type=Path, help=argparse.SUPPRESS)
    text = "test the nodes of a job against each other: devices, links, disks, clocks"
    preflight = add_verb(verbs, "preflight", _preflight, text)
    preflight.add_argument("run", type=Path, nargs="?", default=Path(), metavar="RUN", help="a run folder (default: .)")
    preflight.add_argument("--ranks", type=int, help="start this many ranks here (default: what SLURM says, else one)")
    text = "share of the median below which a rate is too low (default: 0.8)"
    preflight.add_argument("--floor", type=float, default=0.8, metavar="SHARE", help=text)
    text = "how long a rank is waited for, in each part of the test (default: 120)"
    preflight.add_argument("--patience", type=float, default=120.0, metavar="SECONDS", help=text)
    preflight.add_argument("--bad-nodes", type=Path, metavar="FILE", help="write the names of bad nodes into it")
    _add_drill(verbs)


def _add_drill(verbs: Verbs) -> None:
    drill = add_verb(verbs, "drill", _drill, "preempt a tiny training for real, and measure what that costs")
    drill.add_argument("--site", metavar="NAME", help="default: $CODEIO_SITE, else the site named 'default'")
    text = "whose partition and nodes it takes (default: train)"
    drill.add_argument("--class", dest="resource", default="train", metavar="CLASS", help=text)
    drill.add_argument("--nodes", type=int, metavar="N", help="default: the site's")
    drill.add_argument("--ranks-per-node", type=int, metavar="N", help="default: the site's")
    drill.add_argument("--steps", type=int, metavar="N", help="of each training (default: about a minute's)")
    drill.add_argument("--times", type=int, default=1, metavar="N", help="preemptions (default: 1)")
    text = "wait at most so long for each thing that has to happen, a place in the queue too (default: 60)"
    drill.add_argument("--patience", type=float, default=60.0, metavar="MINUTES", help=text)
    drill.add_argument("--run", type=Path, metavar="DIR", help="a new folder (default: runs/drill-SITE)")


def _site_init(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.sites.init import init_site, init_text

    done = init_site(options.name, options.force, options.account)
    output(options, done, init_text(done))
    return 0


def _site_check(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.doctor.examine import check_site

    return _print_findings(options, check_site(options.site))


def _site_flags(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.sites.flags import sbatch_flags

    print("\n".join(sbatch_flags(_site(options), options.resource)))
    return 0


def _site_environment(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.sites.flags import environment_script

    print(environment_script(_site(options), options.resource), end="")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.doctor import examine

    if options.here:
        output(options, examine.examine_here(options.site, options.resource, options.run, options.meeting), "")
        return 0
    if options.part == "sandbox":
        if options.compute or options.site:
            fix = "srun it: srun codeio doctor sandbox"
            raise UserError("doctor sandbox with --compute or --site", "it looks at the host it runs on", fix)
        return _print_findings(options, examine.examine_sandbox(options.run))
    return _print_findings(options, examine.examine(options.site, options.run, options.compute))


def _preflight(options: argparse.Namespace) -> int:
    from codeio_hpc.train.preflight.run import Options, preflight

    asked = (options.run, options.ranks, options.floor, options.patience, options.bad_nodes, options.json)
    return preflight(Options(*asked))


def _drill(options: argparse.Namespace) -> int:
    from codeio_hpc.train.drill import drill
    from codeio_hpc.train.drill.place import Size

    size = Size(options.resource, options.nodes, options.ranks_per_node, options.steps)
    try:
        report = drill.drill(options.run, options.site, size, options.times, options.patience, options.json)
    except KeyboardInterrupt:
        print("\ncodeio: stopped; what the drill had submitted is cancelled, its folder stays", file=sys.stderr)
        return INTERRUPTED
    output(options, drill.as_data(report), drill.as_text(report))
    return 0 if drill.is_identical(report) else FAILED


def _print_findings(options: argparse.Namespace, findings: list[Any]) -> int:
    from codeio_hpc.launch.doctor.finding import any_failed, as_data, as_text

    output(options, as_data(findings), as_text(findings))
    return FAILED if any_failed(findings) else 0


def _site(options: argparse.Namespace) -> Any:
    from codeio_hpc.launch.sites.files import chosen_site, load_site

    return load_site(chosen_site(options.site))
