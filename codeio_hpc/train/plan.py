"""What one training is: everything that can be checked before torch is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codeio_hpc.config import RunConfig, parse, settings_hash
from codeio_hpc.config.facts import check_model
from codeio_hpc.config.recipe import Recipe, StageRecipe, recipe_of, sequence_tokens
from codeio_hpc.config.tokenizer import tokenizer_fingerprint, tokenizer_folder
from codeio_hpc.errors import UserError
from codeio_hpc.launch import trainings
from codeio_hpc.tables.manifest import changes, read_manifest
from codeio_hpc.train.data import data_fingerprint, has_samples, samples_by_stage

_UNTRAINED = "untrained"
_SOURCES = {
    "stage1": "build a run of code (codeio build)",
    "stage2": "import instructions (codeio import)",
    "rft": "import samples for it (codeio import --training-stage rft)",
}
"""Where the samples of a stage come from."""
RECORD = trainings.RECORD


@dataclass(frozen=True)
class TrainingPlan:
    """One stage of training of one run."""

    run: Path
    name: str
    """stage1, stage2 or rft"""
    seed: int
    recipe: Recipe
    tokenizer: str
    """fingerprint"""
    source: Path
    """The recipe's model folder: configuration, tokenizer, and weights unless they are random."""
    data: str
    """fingerprint"""
    start: str
    """What identifies the weights at step 0."""
    start_folder: Path
    """The model at step 0."""
    capacity: int
    """Tokens of a packed sequence at most, as the run was packed; the recipe's length may be more."""
    identity: str
    settings: dict[str, Any] = field(default_factory=dict)
    """What the identity is of, by name."""

    @property
    def stage(self) -> StageRecipe:
        """The recipe's settings of this stage."""
        return self.recipe.stage(self.name)

    @property
    def models(self) -> Path:
        """Where finished models lie."""
        return self.run / "models"

    @property
    def is_from_recipe(self) -> bool:
        """The model at step 0 is the recipe's, in ``models/untrained``."""
        return self.start_folder == self.models / _UNTRAINED

    @property
    def start_name(self) -> str:
        """The folder of the model at step 0, as seen from the run."""
        return str(
            self.start_folder.relative_to(self.run) if self.run in self.start_folder.parents else self.start_folder
        )

    @property
    def checkpoints(self) -> Path:
        """Where this stage's checkpoints lie."""
        return self.run / "checkpoints" / self.name

    @property
    def record(self) -> dict[str, Any] | None:
        """How the finished model came to be; None while it is not finished."""
        return read_record(self.models / self.name)


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a model folder; None if it is not published."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return record if isinstance(record, dict) else None


def make_plan(run: Path, name: str) -> TrainingPlan:
    """Read and check everything.

    Raises:
        UserError: no run, no recipe, another model than the recipe's or one that its settings do not fit, data not
            complete, stage 2's start not finished or of another model or tokenizer, or a finished model of other
            settings in the way.
    """
    manifest = read_manifest(run)
    if manifest is None:
        raise UserError(f"{run}: no run.json", "this is not a run folder", "give a folder that codeio build made")
    config = parse(RunConfig, manifest.config, f"{run}/run.json")
    recipe = recipe_of(config)
    source = tokenizer_folder(Path(str(config.recipe)))
    check_model(recipe, name, source)
    tokenizer = tokenizer_fingerprint(source)
    data = data_fingerprint(run, manifest.shards, config)
    check_samples(run, name, recipe)
    start_folder = _start_folder(run, name, config)
    if start_folder == run / "models" / _UNTRAINED:
        start = settings_hash([recipe.model, recipe.initial, config.seed, tokenizer])
    else:
        start = _finished_start(start_folder, run, tokenizer)
        check_model(recipe, name, start_folder)
    capacity = sequence_tokens(config, recipe, name)
    matters = _what_matters(recipe, name)
    identity = settings_hash([matters, tokenizer, data, config.seed, start])
    settings = matters | {"tokenizer": tokenizer, "data": data, "seed": config.seed, "start": start}
    plan = TrainingPlan(
        run, name, config.seed, recipe, tokenizer, source, data, start, start_folder, capacity, identity, settings
    )
    _check_finished(plan)
    return plan


def check_samples(run: Path, name: str, recipe: Recipe) -> None:
    """See that there is something to train on.

    Raises:
        UserError: there is not; says what there is, and what can be done with it.
    """
    recipe.stage(name)
    if has_samples(run, name):
        return
    counts = samples_by_stage(run)
    there = " and ".join(f"{count:,} of {stage}" for stage, count in counts.items())
    trainable = [stage for stage in recipe.has if counts.get(stage)]
    ways = [f"codeio train {run} --stage {stage}, which needs no {name}" for stage in trainable]
    if not counts:
        ways.append(f"codeio rejected {run} says why nothing is left")
    raise UserError(
        f"{run}: no samples of {name}{f', but {there}' if there else ' nor of any other stage'}",
        "there is nothing to train on",
        "; or ".join(
            [*ways, f"{_SOURCES[name]}, and put the runs together: codeio tokenize RUN {run} --recipe R --run NEW"]
        ),
    )


def _what_matters(recipe: Recipe, name: str) -> dict[str, Any]:
    stage = recipe.stage(name).model_dump(mode="json", exclude={"save_minutes", "save_every", "keep", "keep_every"})
    model = recipe.model_dump(
        mode="json", include={"model", "dtype", "loss_scale", "zero", "attention", "activation_checkpointing"}
    )
    return model | {"stage": name} | stage


def _start_folder(run: Path, name: str, config: RunConfig) -> Path:
    """The model at step 0: the recipe's; for stage 2 the one that the run names, else stage 1's, if the run has any."""
    if name == "stage2" and config.stage2_from is not None:
        return Path(config.stage2_from)
    stage1 = run / "models" / "stage1"
    follows = name == "stage2" and (stage1.exists() or has_samples(run, "stage1"))
    return stage1 if follows else run / "models" / _UNTRAINED


def _finished_start(folder: Path, run: Path, tokenizer: str) -> str:
    """The identity of the finished model in ``folder``, which stage 2 starts from.

    Raises:
        UserError: it is not finished, or of another tokenizer.
    """
    ours = folder == run / "models" / "stage1"
    record = read_record(folder)
    if record is None:
        raise UserError(
            f"{folder}: no finished {'stage 1' if ours else 'model'}",
            "stage 2 starts from its weights",
            f"codeio train {run} --stage stage1"
            if ours
            else "finish that training, or correct stage2_from in the run's configuration: a folder RUN/models/stage1",
        )
    if record["tokenizer"] != tokenizer:
        raise UserError(
            f"{folder}: trained with another tokenizer or chat template",
            "the same ids would mean other tokens",
            "restore the tokenizer's files, or train stage 1 again with these",
        )
    return str(record["identity"])


def _check_finished(plan: TrainingPlan) -> None:
    record, folder = plan.record, plan.models / plan.name
    if record is None and folder.exists():  # or the last thing that is done would fail
        raise UserError(
            f"{folder}: there, but without {RECORD}, which finished models have",
            "this training's model is to be published there, and nothing is overwritten",
            "move it away, or, if it is all or part of a finished model, restore the file",
        )
    if record is not None and record["identity"] != plan.identity:
        before = record.get("settings")
        differing = changes(before, plan.settings) if before else "which ones, it does not say"
        raise UserError(
            f"{folder}: finished with other settings, data or start: {differing}",
            "it is never overwritten",
            f"restore them, or remove that folder and {plan.checkpoints} to train anew",
        )
