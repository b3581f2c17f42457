"""What one rank does for all before they load anything. Loads torch."""

from __future__ import annotations

from codeio_hpc.errors import UserError
from codeio_hpc.train.data import open_corpus, write_corpus
from codeio_hpc.train.models import ensure_untrained
from codeio_hpc.train.plan import TrainingPlan


def prepare(plan: TrainingPlan) -> None:
    """Write the arrays of the data and, if training starts from it, the untrained model.

    Raises:
        UserError: there is nothing to learn from, a sequence is longer than the recipe's, or another untrained model is
            in the way.
    """
    corpus = open_corpus(write_corpus(plan.run, plan.name, plan.data))
    if not int(corpus.trained.sum()):
        raise UserError(
            f"{plan.run}: no token of the samples of {plan.name} is trained",
            "there is nothing to learn from",
            "look at them (codeio show), and at tokenise.loss_on",
        )
    if int(corpus.lengths().max()) > plan.recipe.length(plan.name):
        found = f"a sequence of {int(corpus.lengths().max())} tokens"
        raise UserError(found, "longer than the recipe's", "raise sequence_length")
    if plan.is_from_recipe:
        ensure_untrained(plan)
