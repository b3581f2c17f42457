"""What a training will take, before it is started: memory of a GPU, hours, checkpoints, work lost to preemption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codeio_hpc.config.load import apply_overrides, load_yaml, parse
from codeio_hpc.config.recipe import ModelFacts, Recipe
from codeio_hpc.config.samples import TrainingStage
from codeio_hpc.errors import UserError
from codeio_hpc.launch.doctor.planner import BETWEEN_PREEMPTIONS
from codeio_hpc.train.planner.changes import changes_that_help
from codeio_hpc.train.planner.course import (
    MFU,
    MFU_OF_MIXTURES,
    WRITE_BYTES,
    Assumed,
    checkpoints_of,
    course_of,
    preemption_of,
    sequences_a_step,
)
from codeio_hpc.train.planner.hardware import Cluster
from codeio_hpc.train.planner.load import Load, load_of
from codeio_hpc.train.planner.memory import fullest, moments
from codeio_hpc.train.planner.tokens import Tokens, assumed_tokens, counted_tokens
from codeio_hpc.train.weights import active_parameters, parameters


@dataclass(frozen=True)
class Data:
    """What is known of the data to train on; a run, or numbers, or nothing."""

    run: Path | None = None
    samples: int | None = None
    tokens_per_sample: float | None = None

    def of(self, recipe: Recipe, stage: TrainingStage) -> Tokens | None:
        """Those of one stage; None if nothing is known."""
        if self.run is not None:
            return counted_tokens(self.run, recipe, stage)
        if self.samples is None or self.tokens_per_sample is None:
            return None
        return assumed_tokens(self.samples, self.tokens_per_sample, recipe.length(stage))


@dataclass(frozen=True)
class Given:
    """Speeds and rates as far as a person gave them."""

    mfu: float | None = None
    write_bytes: float | None = None
    preemptions_per_day: float | None = None

    def completed(self, facts: ModelFacts, cluster: Cluster) -> Assumed:
        """With what is assumed otherwise.

        Raises:
            UserError: one of them makes no sense.
        """
        mfu, write, per_day = self.mfu, self.write_bytes, self.preemptions_per_day
        if mfu is not None and not 0 < mfu <= 1:
            raise UserError(f"--mfu {mfu:g}", "it is the share of the GPU's peak that is reached", "0 < MFU <= 1")
        if write is not None and write <= 0:
            raise UserError(f"--bandwidth {write:g}", "nothing would ever be written", "bytes a second, such as 2e9")
        if per_day is not None and not 0 <= per_day <= 1440:
            raise UserError(f"--preemptions-per-day {per_day:g}", "no job is preempted so often", "give 0 to 1440")
        usual = 24 / BETWEEN_PREEMPTIONS if cluster.is_preempted else 0.0
        return Assumed(
            mfu=mfu or (MFU_OF_MIXTURES if facts.experts else MFU),
            write_bytes=write or WRITE_BYTES,
            preemptions_per_day=usual if per_day is None else per_day,
        )


def plan_training(
    path: Path, overrides: Sequence[str], stage: TrainingStage | None, cluster: Cluster, data: Data, given: Given
) -> dict[str, Any]:
    """A plan of what the recipe in ``path`` is for, or of one stage; nothing is loaded, and SLURM is not asked.

    Raises:
        UserError: recipe, stage, data or a number are wrong; or the training cannot be done so.
    """
    recipe = read_recipe(path, overrides)
    if stage is not None:
        recipe.stage(stage)
    facts = facts_of_recipe(recipe, path)
    stages = recipe.has if stage is None else (stage,)
    return forecast(recipe, facts, stages, cluster, data, given.completed(facts, cluster))


def read_recipe(path: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe in a file, with overrides applied.

    Raises:
        UserError: the file is missing or does not fit the schema.
    """
    return parse(Recipe, apply_overrides(load_yaml(path), overrides), str(path))


def facts_of_recipe(recipe: Recipe, path: Path) -> ModelFacts:
    """The facts of the recipe's model: from the recipe, else from the model's folder beside it.

    Raises:
        UserError: neither says enough.
    """
    if recipe.facts is not None and recipe.facts.intermediate is not None:
        return recipe.facts
    from codeio_hpc.config.facts import facts_of_model

    folder = path.parent / recipe.model
    if not folder.is_dir():
        raise UserError(
            f"{path}: no facts, or none of 'intermediate'",
            f"the weights of {recipe.model} cannot be counted, and there is no such folder here",
            "add facts as the recipes in configs/models have them, from the model's config.json",
        )
    return facts_of_model(folder)


def forecast(
    recipe: Recipe, facts: ModelFacts, stages: Sequence[TrainingStage], cluster: Cluster, data: Data, assumed: Assumed
) -> dict[str, Any]:
    """A plan, as plain data: the recipe's settings, "parameters", "cluster", "assumed", and for each of "stages"
    "memory", "data", "course", "checkpoints", "preemption", and in "problem" why it cannot be trained so, if it cannot.

    Sizes are bytes, times seconds. What depends on data or a speed that is not known is None.

    Raises:
        UserError: the model cannot be planned for, or none of the stages can be trained so.
    """
    if recipe.attention in ("sdpa", "varlen") and facts.architecture == "Gemma2ForCausalLM":
        found = f"attention: {recipe.attention}"
        raise UserError(found, "it knows no soft-cap, and Gemma 2 has one", "eager, flash_attention_2, flex_attention")
    load = load_of(recipe, stages[0], facts, cluster.gpus, cluster.gpu.device, accumulates=True)
    count = parameters(facts)
    planned = {name: _stage(recipe, name, facts, cluster, data, assumed) for name in stages}
    problems = [stage["problem"] for stage in planned.values()]
    if all(problems):
        raise UserError(problems[0]["found"], problems[0]["why"], problems[0]["fix"])
    return {
        "recipe": recipe.name,
        "model": recipe.model,
        "parameters": count,
        "active_parameters": active_parameters(facts),
        "dtype": load.dtype,
        "zero": recipe.zero,
        "attention": recipe.attention,
        "activation_checkpointing": recipe.activation_checkpointing,
        "cluster": {
            "nodes": cluster.nodes,
            "gpus_per_node": cluster.gpus_per_node,
            "gpus": cluster.gpus,
            **asdict(cluster.gpu),
            "usable": cluster.gpu.usable,
        },
        "deepspeed_estimate": _deepspeed_estimate(load, count),
        "assumed": asdict(assumed),
        "stages": planned,
    }


def memory_by_nodes(
    path: Path, overrides: Sequence[str], stage: TrainingStage | None, cluster: Cluster, most: int = 16
) -> list[tuple[int, float]]:
    """GPUs, and bytes of one at its fullest, for 1, 2, 4 ... nodes of the cluster's; of the recipe's first stage if
    ``stage`` is None.

    Raises:
        UserError: as :func:`plan_training`.
    """
    recipe = read_recipe(path, overrides)
    facts, name = facts_of_recipe(recipe, path), stage or recipe.has[0]
    counts = [cluster.gpus_per_node * 2**power for power in range(most.bit_length())]
    loads = [load_of(recipe, name, facts, count, cluster.gpu.device, accumulates=True) for count in counts]
    return [(load.ranks, fullest(load).bytes) for load in loads]


def _deepspeed_estimate(load: Load, count: int) -> float:
    """Model states as ``estimate_zero2_model_states_mem_needs`` and its sibling for ZeRO-3 count them, in 16 bits: the
    second without gathered weights."""
    return (0 if load.zero == 3 else 2 * count) + 18 * count / load.ranks


def _stage(
    recipe: Recipe, name: TrainingStage, facts: ModelFacts, cluster: Cluster, data: Data, assumed: Assumed
) -> dict[str, Any]:
    stage, tokens = recipe.stage(name), data.of(recipe, name)
    sequences = sequences_a_step(stage, tokens)
    accumulates = sequences is None or sequences > cluster.gpus * stage.micro_batch
    load = load_of(recipe, name, facts, cluster.gpus, cluster.gpu.device, accumulates)
    checkpoints = checkpoints_of(stage, load, cluster, assumed.write_bytes)
    course = course_of(stage, load, tokens, cluster, assumed.mfu)
    return {
        "problem": _problem(name, load, facts, stage.batch_size if sequences is None else sequences, cluster),
        "sequence_length": load.length,
        "micro_batch": load.rows,
        "memory": _memory(load, name, cluster, sequences),
        "data": asdict(tokens) if tokens else None,
        "course": course,
        "checkpoints": checkpoints,
        "preemption": preemption_of(stage, course["step_seconds"], checkpoints, assumed.preemptions_per_day)
        if course
        else None,
    }


def _problem(name: str, load: Load, facts: ModelFacts, sequences: float, cluster: Cluster) -> dict[str, str] | None:
    """Why the stage cannot be trained so at all, as a UserError tells it."""
    if load.length > facts.context:
        found = f"{name}: sequences of {load.length:,} tokens"
        return {"found": found, "why": f"the model has {facts.context:,} positions", "fix": "shorten sequence_length"}
    if sequences < load.ranks * load.rows:
        given = f"{sequences:,.1f}".removesuffix(".0")
        fewest = f"at most {max(1, int(sequences / load.rows)):,} GPUs"
        smaller = f", or stages.{name}.micro_batch=1" if load.rows > 1 else ""
        return {
            "found": f"{name}: a batch of {given} sequences for {load.ranks:,} ranks x {load.rows}",
            "why": "some ranks would have nothing to do in every step",
            "fix": f"{fewest}{smaller}",
        }
    return None


def _memory(load: Load, stage: str, cluster: Cluster, sequences: float | None) -> dict[str, Any]:
    found, usable = fullest(load), cluster.gpu.usable
    fits = None if usable is None else found.bytes <= usable
    return {
        "moment": found.name,
        "bytes": found.bytes,
        "parts": [asdict(part) for part in found.parts],
        "moments": {moment.name: moment.bytes for moment in moments(load)},
        "fits": fits,
        "left": None if usable is None else usable - found.bytes,
        "changes": [asdict(each) for each in changes_that_help(load, stage, cluster, sequences)]
        if fits is False
        else [],
    }
