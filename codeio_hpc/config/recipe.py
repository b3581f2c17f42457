"""A training recipe: which model is trained, and how, in each stage."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from codeio_hpc.config.load import Settings, load_yaml, parse
from codeio_hpc.config.run import RunConfig
from codeio_hpc.config.samples import TrainingStage
from codeio_hpc.errors import UserError

DType = Literal["float32", "bfloat16", "float16"]
Device = Literal["cpu", "cuda"]
TRAINING_STAGES: tuple[TrainingStage, ...] = ("stage1", "stage2", "rft")
"""In the order in which a model goes through them; most go through some only."""


class DTypes(Settings):
    """The number format of weights and activations in the forward pass; the optimiser's copy is float32 always."""

    cpu: DType = "float32"
    cuda: DType = "bfloat16"


class LossScale(Settings):
    """Of float16: the loss is multiplied by it, so that small gradients do not vanish. A step whose gradients overflow
    is repeated with half the scale, so that every batch is trained exactly once; see ``docs/training.md``."""

    initial_power: int = Field(default=16, ge=0, le=32)
    """Begins at 2 to this power."""
    window: int = Field(default=1000, ge=1)
    """Doubled after so many steps without an overflow."""


class TelemetrySettings(Settings):
    """Where curves go besides TensorBoard's event files."""

    wandb: str | None = None
    """A project of Weights & Biases."""


class SpikeSettings(Settings):
    """A spike is a step whose loss or gradient norm is over ``factor`` times the highest of ``window`` steps before
    it that were none; see ``docs/training.md``. Not the mean: small batches vary, and that is usual there."""

    factor: float = Field(default=2.0, gt=1)
    """As in LLM Foundry's KillLossSpike, which holds it against the mean."""
    window: int = Field(default=50, ge=1)
    """Before so many steps nothing is judged."""
    action: Literal["warn", "stop"] = "warn"
    """``stop`` ends training with exit code 1; the last checkpoint stays."""
    patience: int = Field(default=3, ge=1)
    """Of ``stop``: at so many spikes in a row. A single bad batch is often got over."""


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
    sequence_length: int | None = Field(default=None, ge=32)
    """Tokens of a packed sequence at most, where this stage's are not the recipe's."""
    micro_batch: int = Field(default=1, ge=1)
    """Packed sequences of one forward pass on one rank."""
    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = Field(default=1.0, gt=0)
    """The global gradient norm is cut to this."""
    save_minutes: float | None = Field(default=10.0, gt=0)
    """Between checkpoints, which are saved behind the next optimiser step. Six preemptions a day without a warning cost
    7B to 27B models least with 5 to 14 (docs/training-plan.md). None: ``save_every`` alone says when."""
    save_every: int | None = Field(default=None, ge=1)
    """Optimiser steps between checkpoints; with ``save_minutes``, whichever comes first."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints kept; older ones are removed after a newer one is published."""
    keep_every: int | None = Field(default=None, ge=1)
    """At multiples of this step there is a checkpoint too, which is kept beside them for good."""
    validation_fraction: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the sequences, chosen by the run's seed, that is never trained: with every checkpoint their loss is
    measured, and the best one is kept."""

    @model_validator(mode="after")
    def _fits_together(self) -> StageRecipe:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        if self.save_minutes is None and self.save_every is None:
            raise ValueError("give save_minutes, save_every, or both")
        if self.min_lr > self.lr:
            raise ValueError("min_lr is larger than lr")
        if self.schedule == "constant" and self.min_lr:
            raise ValueError("min_lr belongs to schedule: cosine")
        if self.schedule == "cosine" and self.steps is not None and self.warmup_steps >= self.steps:
            raise ValueError("the warm-up is as long as the stage, so that the cosine never begins")
        return self

    def steps_between_saves(self, step_seconds: float) -> int:
        """Optimiser steps from one checkpoint to the next, where one takes so long."""
        by_time = math.inf if self.save_minutes is None else max(1, math.ceil(60 * self.save_minutes / step_seconds))
        by_count = math.inf if self.save_every is None else self.save_every
        return int(min(by_time, by_count))

    @property
    def saves_text(self) -> str:
        """When checkpoints are saved, in words."""
        minutes = None if self.save_minutes is None else f"every {self.save_minutes:g} minutes"
        steps = None if self.save_every is None else f"every {self.save_every:,} steps"
        return " or ".join(each for each in (minutes, steps) if each)


class StageRecipes(Settings):
    """The stages that the recipe is for."""

    stage1: StageRecipe | None = None
    """On reasoning data (CodeI/O, arXiv 2502.07316)."""
    stage2: StageRecipe | None = None
    """On general instructions, after stage 1."""
    rft: StageRecipe | None = None
    """Rejection-sampling fine-tuning on multi-turn code generation (arXiv 2410.08105)."""

    @model_validator(mode="after")
    def _some_stage(self) -> StageRecipes:
        if self.stage1 is None and self.stage2 is None and self.rft is None:
            raise ValueError("name at least one of stage1, stage2, rft")
        return self


class LatentAttention(Settings):
    """Attention whose keys and values come from one small vector (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""

    kv_rank: int = Field(ge=1)
    """``kv_lora_rank``"""
    query_rank: int | None = Field(default=None, ge=1)
    """``q_lora_rank``; None: queries come from the hidden state itself."""
    nope_dim: int = Field(ge=1)
    """``qk_nope_head_dim``"""
    rope_dim: int = Field(ge=1)
    """``qk_rope_head_dim``"""
    value_dim: int = Field(ge=1)
    """``v_head_dim``"""


class Experts(Settings):
    """The feed-forward layers of a mixture of experts."""

    count: int = Field(ge=1)
    """``n_routed_experts``"""
    active: int = Field(ge=1)
    """``num_experts_per_tok``"""
    shared: int = Field(ge=0)
    """``n_shared_experts``: every token goes through them too."""
    intermediate: int = Field(ge=1)
    """``moe_intermediate_size``"""
    dense_layers: int = Field(ge=0)
    """``first_k_dense_replace``: so many first layers have none."""


class ModelFacts(Settings):
    """What the model's config.json says; where it says something else, it is another model than the recipe is for."""

    architecture: str
    """The class in ``architectures``."""
    vocabulary: int = Field(ge=1)
    """Rows of the embedding."""
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    hidden: int = Field(ge=1)
    context: int = Field(ge=1)
    """Positions at most."""
    intermediate: int | None = Field(default=None, ge=1)
    """Width of the feed-forward layers. This and what follows: for plans, which count weights without the model."""
    head_dim: int | None = Field(default=None, ge=1)
    """None: ``hidden / heads``."""
    attention_bias: bool = False
    tied: bool = False
    """The output layer is the embedding (``tie_word_embeddings``)."""
    latent: LatentAttention | None = None
    experts: Experts | None = None


class Recipe(Settings):
    """Everything that training adds to a run's data."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    model: str
    """A model folder, relative to the recipe file; or the name of a model on the Hugging Face hub."""
    initial: Literal["pretrained", "random", "mimetic"] = "pretrained"
    """``random``, ``mimetic``: weights drawn from the run's seed; the folder needs a configuration and a tokenizer
    only. ``mimetic`` starts attention where the training of a model from nothing would take it first."""
    facts: ModelFacts | None = None
    dtype: DTypes = DTypes()
    loss_scale: LossScale = LossScale()
    spike: SpikeSettings = SpikeSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    hang_minutes: float = Field(default=15.0, gt=0)
    """Without progress of any rank for so long, training ends with the names of those that are behind, to be started
    again. Longer than the longest save, and than the first step's compilations."""
    zero: Literal[2, 3] = 2
    """What DeepSpeed divides among the ranks: optimiser state and gradients (2), or the weights too (3)."""
    attention: Literal["varlen", "sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"
    """``varlen`` is ours: FlashAttention of torch itself, sample by sample. The others are transformers'."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more work."""
    sequence_length: int = Field(ge=32)
    """Tokens of a packed sequence at most."""
    stages: StageRecipes

    @model_validator(mode="after")
    def _fits_the_model(self) -> Recipe:
        if self.facts is None:
            return self
        context = self.facts.context
        too_long = [f"{self.length(name):,} ({name})" for name in self.has if self.length(name) > context]
        if too_long:
            found = f"sequence_length of {' and '.join(too_long)}"
            raise ValueError(f"{found} is longer than the model's context of {context:,}; shorten it")
        return self

    def stage(self, name: str) -> StageRecipe:
        """The settings of one of :data:`TRAINING_STAGES`.

        Raises:
            UserError: the recipe does not have it.
        """
        found: StageRecipe | None = getattr(self.stages, name)
        if found is None:
            is_for = ", ".join(self.has)
            raise UserError(f"recipe '{self.name}' has no {name}", f"it is for {is_for}", f"add stages.{name} to it")
        return found

    @property
    def has(self) -> tuple[TrainingStage, ...]:
        """The stages that the recipe is for."""
        return tuple(name for name in TRAINING_STAGES if getattr(self.stages, name) is not None)

    def length(self, name: str) -> int:
        """Tokens of a packed sequence of that stage at most."""
        return self.stage(name).sequence_length or self.sequence_length


def recipe_of(config: RunConfig) -> Recipe:
    """The recipe that a run's configuration names.

    Raises:
        UserError: it names none, the file is missing or wrong, or the run's sequences are longer than the recipe's.
    """
    if config.recipe is None:
        raise UserError(
            f"run '{config.name}' has no recipe",
            "a recipe names the model whose tokens are trained, and how",
            "codeio tokenize RUN --recipe R --run NEW makes a run of its samples that has one",
        )
    recipe = load_recipe(Path(config.recipe))
    longest = max(recipe.length(name) for name in recipe.has)
    if (config.tokenise.max_tokens or 0) > longest:
        raise UserError(
            f"sequences of up to {config.tokenise.max_tokens} tokens",
            f"recipe '{recipe.name}' trains on {longest} at most",
            f"build with tokenise.max_tokens={longest}",
        )
    return recipe


def sequence_tokens(config: RunConfig, recipe: Recipe, stage: str) -> int:
    """Tokens of a packed sequence of a training stage at most: what the recipe trains on, or less as the run says."""
    trained = recipe.length(stage) if stage in recipe.has else recipe.sequence_length
    return min(trained, config.tokenise.max_tokens or trained)


def load_recipe(path: Path) -> Recipe:
    """The recipe in a file.

    Raises:
        UserError: the file is missing or does not fit the schema.
    """
    return parse(Recipe, load_yaml(path), str(path))
