"""Building a dataset: build, import, tokenize, resume."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from codeio_hpc.cli.verb import Verbs, add_verb, output

if TYPE_CHECKING:
    from codeio_hpc.config import RunConfig


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this file."""
    build = add_verb(verbs, "build", _build, "build a dataset, or continue building it")
    build.add_argument("config", type=Path, metavar="CONFIG", help="a run configuration (YAML)")
    build.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, e.g. sample.pairs=6")
    build.add_argument("--run", type=Path, metavar="DIR", help="the run folder (default: runs/NAME)")
    build.add_argument(
        "--preset", action="append", default=[], metavar="NAME", help="settings of configs/runs/ablations/NAME.yaml"
    )
    _build_options(build)

    take = add_verb(verbs, "import", _import, "take finished samples in: chats, prompts with answers, plain text")
    take.add_argument(
        "words",
        nargs="+",
        metavar="FILE",
        help=".jsonl, .jsonl.gz, .jsonl.zst, .json, .parquet, .txt, .py; a folder; a pattern; or key=value",
    )
    take.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder")
    take.add_argument("--training-stage", choices=("stage1", "stage2", "rft"), help="default: stage2")
    take.add_argument("--format", choices=("chat", "prompt", "text"), help="default: what the columns' names tell")
    take.add_argument("--licence", metavar="NAME", help="of all files (default: unknown)")
    take.add_argument("--weight", type=float, metavar="N", help="how often each sample is trained in an epoch")
    take.add_argument("--recipe", metavar="R", help="tokenise for this recipe too (configs/models/R.yaml, or a path)")
    _build_options(take)
    take.set_defaults(overrides=[])

    text = "tokenise the samples of runs for a recipe, into a new run"
    tokenize = add_verb(verbs, "tokenize", _tokenize, text, aliases=["tokenise"])
    tokenize.add_argument("words", nargs="+", metavar="RUN", help="a run folder; or key=value")
    tokenize.add_argument("--recipe", required=True, metavar="R", help="configs/models/R.yaml, or a path")
    tokenize.add_argument("--run", type=Path, required=True, metavar="DIR", help="the new run folder")
    _build_options(tokenize)
    tokenize.set_defaults(overrides=[])

    resume = add_verb(verbs, "resume", _resume, "do what is missing in a run")
    resume.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    _where_options(resume)


def _build_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--dry-run", action="store_true", help="show what would be done; write nothing")
    _where_options(verb)


def _where_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--site", metavar="NAME", help="run as job arrays on this SLURM site (configs/sites/NAME.yaml)")
    verb.add_argument("--wait", action="store_true", help="with --site: stay until the dataset is complete")


def _build(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.commands import read_config

    return _carry_out(options, read_config(options.config, options.overrides, options.preset))


def _import(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.compose import import_config
    from codeio_hpc.train.recipes import find_recipe

    recipe = find_recipe(options.recipe) if options.recipe else None
    names = ("training_stage", "format", "licence", "weight")
    given = {name: getattr(options, name) for name in names}
    return _carry_out(options, import_config([*options.words, *options.overrides], options.run, recipe, given))


def _tokenize(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.compose import tokenize_config
    from codeio_hpc.train.recipes import find_recipe

    recipe = find_recipe(options.recipe)
    return _carry_out(options, tokenize_config([*options.words, *options.overrides], options.run, recipe))


def _carry_out(options: argparse.Namespace, config: RunConfig) -> int:
    """Build the run of a configuration, or show what that would be."""
    from codeio_hpc.launch.commands import build_run
    from codeio_hpc.launch.dry_run import dry_run, dry_run_text
    from codeio_hpc.launch.sites.files import load_site
    from codeio_hpc.launch.status import result_text

    site = load_site(options.site) if options.site else None
    if options.dry_run:
        plan = dry_run(config, options.run, site)
        output(options, plan, dry_run_text(plan))
        return 0
    result = build_run(config, options.run, site, options.wait, options.json)
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
