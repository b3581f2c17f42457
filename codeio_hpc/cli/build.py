"""Building a dataset: build, resume."""

from __future__ import annotations

import argparse
from pathlib import Path

from codeio_hpc.cli.verb import Verbs, add_verb, output


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this file."""
    build = add_verb(verbs, "build", _build, "build a dataset, or continue building it")
    build.add_argument("config", type=Path, metavar="CONFIG", help="a run configuration (YAML)")
    build.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, e.g. sample.pairs=6")
    build.add_argument("--run", type=Path, metavar="DIR", help="the run folder (default: runs/NAME)")
    build.add_argument(
        "--preset", action="append", default=[], metavar="NAME", help="settings of configs/runs/ablations/NAME.yaml"
    )
    build.add_argument("--dry-run", action="store_true", help="show what would be done; write nothing")
    _where_options(build)

    resume = add_verb(verbs, "resume", _resume, "do what is missing in a run")
    resume.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    _where_options(resume)


def _where_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--site", metavar="NAME", help="run as job arrays on this SLURM site (configs/sites/NAME.yaml)")
    verb.add_argument("--wait", action="store_true", help="with --site: stay until the dataset is complete")


def _build(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands
    from codeio_hpc.launch.dry_run import dry_run, dry_run_text
    from codeio_hpc.launch.sites.files import load_site
    from codeio_hpc.launch.status import result_text

    site = load_site(options.site) if options.site else None
    if options.dry_run:
        plan = dry_run(options.config, options.overrides, options.preset, options.run, site)
        output(options, plan, dry_run_text(plan))
        return 0
    result = commands.build(
        options.config, options.overrides, options.preset, options.run, site, options.wait, options.json
    )
    output(options, result, result_text(result))
    return 0


def _resume(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands
    from codeio_hpc.launch.sites.files import load_site
    from codeio_hpc.launch.status import result_text

    site = load_site(options.site) if options.site else None
    result = commands.resume(options.run, site, options.wait, options.json)
    output(options, result, result_text(result))
    return 0
