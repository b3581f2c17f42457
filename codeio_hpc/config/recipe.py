"""A training recipe: which model is trained, and how, in both stages."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from codeio_hpc.config.load import Settings, load_yaml, parse
from codeio_hpc.config.run import RunConfig
from codeio_hpc.errors import UserError

DType = Literal["float32", "bfloat16", "float16"]
Device = Literal["cpu", "cuda"]
TrainingStage = Literal["stage1", "stage2"]


class DTypes(Settings):
    """The number format of weights and activations in the forward pass; the optimiser's copy is float32 always."""

    cpu: DType = "float32"
    cuda: DType = "bfloat16"


class StageRecipe(Settings):
    """One stage of training. Weight decay and epochs are settings because the paper does not state them for all."""

    schedule: Literal["constant", "cosine"]
    lr: float = Field(gt=0)
    min_lr: float = Field(default=0.0, ge=0)
    """Where the cosine ends, and stays."""
    warmup_steps: int = Field(default=0, ge=0)
    batch_size: int = Field(ge=1)
    """The global batch of one optimiser step, whatever the number of GPUs."""
    batch_unit: Literal["samples", "sequences"] = "samples"
    """What ``batch_size`` counts: training samples, or packed sequences."""
    order: Literal["shuffled", "curriculum"] = "shuffled"
    """``curriculum``: the first epoch goes from the easiest sequences to the hardest, by their estimated difficulty."""
    micro_batch: int = Field(default=1, ge=1)
    """Packed sequences of one forward pass on one rank."""
    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = Field(default=1.0, gt=0)
    """The global gradient norm is cut to this."""
    save_every: int = Field(default=100, ge=1)
    """Optimiser steps between checkpoints."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints kept; older ones are removed after a newer one is published."""

    @model_validator(mode="after")
    def _fits_together(self) -> StageRecipe:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        if self.min_lr > self.lr:
            raise ValueError("min_lr is larger than lr")
        if self.schedule == "constant" and self.min_lr:
            raise ValueError("min_lr belongs to schedule: cosine")
        return self


class StageRecipes(Settings):
    """Both stages: the reasoning data first, general instructions after it."""

    stage1: StageRecipe
    stage2: StageRecipe


class Recipe(Settings):
    """Everything that training adds to a run's data."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    model: str
    """A model folder, relative to the recipe file; or the name of a model on the Hugging Face hub."""
    initial: Literal["pretrained", "random", "mimetic"] = "pretrained"
    """``random``, ``mimetic``: weights drawn from the run's seed; the folder needs a configuration and a tokenizer
    only. ``mimetic`` starts attention where the training of a model from nothing would take it first."""
    dtype: DTypes = DTypes()
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more work."""
    sequence_length: int = Field(ge=32)
    """Tokens of a packed sequence at most."""
    stages: StageRecipes

    def stage(self, name: str) -> StageRecipe:
        """The settings of ``stage1`` or ``stage2``."""
        return {"stage1": self.stages.stage1, "stage2": self.stages.stage2}[name]


def recipe_of(config: RunConfig) -> Recipe:
    """The recipe that a run's configuration names.

    Raises:
        UserError: it names none, the file is missing or wrong, or the run's sequences are longer than the recipe's.
    """
    if config.recipe is None:
        raise UserError(
            f"run '{config.name}' has no recipe", "a recipe names model and settings", "build with recipe=FILE"
        )
    recipe = load_recipe(Path(config.recipe))
    if sequence_tokens(config, recipe) > recipe.sequence_length:
        raise UserError(
            f"sequences of up to {config.tokenise.max_tokens} tokens",
            f"recipe '{recipe.name}' trains on {recipe.sequence_length} at most",
            f"build with tokenise.max_tokens={recipe.sequence_length}",
        )
    return recipe


def sequence_tokens(config: RunConfig, recipe: Recipe) -> int:
    """Tokens of a packed sequence at most: the run's setting, else what the recipe trains on."""
    return recipe.sequence_length if config.tokenise.max_tokens is None else config.tokenise.max_tokens


def load_recipe(path: Path) -> Recipe:
    """The recipe in a file.

    Raises:
        UserError: the file is missing or does not fit the schema.
    """
    return parse(Recipe, load_yaml(path), str(path))
