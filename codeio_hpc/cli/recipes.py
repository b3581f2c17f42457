"""Recipes: list, show."""

from __future__ import annotations

import argparse

from codeio_hpc.cli.verb import Verbs, add_verb, output


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this file."""
    recipe = verbs.add_parser("recipe", help="training settings").add_subparsers(metavar="COMMAND", required=True)
    add_verb(recipe, "list", _list, "the recipes there are, and the stages that each is for")
    show = add_verb(recipe, "show", _show, "what a recipe says of a stage, and its learning rates")
    show.add_argument("model", metavar="MODEL", help="a recipe: the NAME of configs/models/NAME.yaml, or a path")
    show.add_argument("--stage", choices=("stage1", "stage2", "rft"), help="default: all that it is for")
    show.add_argument("--step", type=int, metavar="K", help="only the rate of the optimiser step K, counted from 0")
    show.add_argument("--total-steps", type=int, metavar="N", help="of a stage whose length is given in epochs")


def _list(options: argparse.Namespace) -> int:
    from codeio_hpc.train import recipes

    found = recipes.list_recipes()
    output(options, {"recipes": found}, recipes.list_text(found))
    return 0


def _show(options: argparse.Namespace) -> int:
    from codeio_hpc.train import recipes

    path = recipes.find_recipe(options.model)
    if options.stage is None:
        described_all = recipes.describe_all(path, options.step, options.total_steps)
        output(options, described_all, "\n\n".join(map(recipes.description_text, described_all["stages"])))
        return 0
    if options.step is None:
        described = recipes.describe(path, options.stage, options.total_steps)
        output(options, described, recipes.description_text(described))
        return 0
    rate = recipes.rate_of_step(path, options.stage, options.step, options.total_steps)
    output(options, rate, str(rate["learning_rate"]))
    return 0
