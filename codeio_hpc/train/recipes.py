"""``codeio recipe``: which recipes there are, and what one says of a stage."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codeio_hpc.config.facts import check_model
from codeio_hpc.config.recipe import StageRecipe, load_recipe
from codeio_hpc.errors import UserError
from codeio_hpc.launch.sites.files import config_folders, find_file
from codeio_hpc.train.counting import plural
from codeio_hpc.train.schedule import learning_rate

PAPER_SAMPLES = 3_520_000
"""Stage 1 of the paper (CodeI/O, arXiv 2502.07316, table 2)."""
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


def recipe_folders() -> list[Path]:
    """Where a recipe of that name is looked for, in this order: here, in the project's folder, beside this package (a
    checkout), where ``pip install`` put them."""
    package = Path(__file__).resolve().parents[1]
    brought = [package.parent / "configs" / "models", Path(sys.prefix) / "share" / "codeio-hpc" / "configs" / "models"]
    folders: dict[Path, Path] = {}
    for folder in (*config_folders("models"), *brought):  # a checkout's own is the project's and the package's
        folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or a name in one of :func:`recipe_folders`.

    Raises:
        UserError: no folder has it; says which there are.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return find_file(name)
    found = _files().get(name)
    if found is None:
        raise UserError(
            f"recipe '{name}'",
            f"there is no {name}.yaml in {', '.join(map(str, recipe_folders()))}",
            f"known recipes: {', '.join(sorted(_files())) or 'none'}; or give the path of a file",
        )
    return found


def _files() -> dict[str, Path]:
    """The recipe files by name; of one name, the first folder's."""
    files: dict[str, Path] = {}
    for folder in recipe_folders():
        for path in folder.glob("*.yaml"):
            files.setdefault(path.stem, path)
    return files


def list_recipes() -> list[dict[str, Any]]:
    """Name, file, stages and model of every recipe in :func:`recipe_folders`.

    Raises:
        UserError: one of them is wrong.
    """
    recipes = {name: (path, load_recipe(path)) for name, path in sorted(_files().items())}
    return [
        {"name": name, "file": str(path), "stages": list(recipe.has), "model": recipe.model}
        for name, (path, recipe) in recipes.items()
    ]


def list_text(recipes: list[dict[str, Any]]) -> str:
    """What :func:`list_recipes` found, for people."""
    rows = [[each["name"], ", ".join(each["stages"]), each["model"]] for each in recipes]
    return "\n".join(f"{name:<24} {stages:<21} {model}" for name, stages, model in [["recipe", "for", "model"], *rows])


def rate_of_step(path: Path, name: str, step: int, total_steps: int | None) -> dict[str, Any]:
    """The learning rate of one optimiser step of a stage, counted from 0.

    Raises:
        UserError: no such recipe, stage or step; or the rate depends on a number of steps that is not known.
    """
    recipe = load_recipe(path)
    stage = recipe.stage(name)
    total = _total(stage, name, total_steps)
    if step < 0 or (total is not None and step >= total):
        last = "" if total is None else f" and end with {total - 1}"
        raise UserError(f"--step {step}", f"the steps of {name} begin with 0{last}", "give one of them")
    if total is None and stage.schedule == "cosine":
        raise UserError(
            f"--step {step}",
            f"{name} is given in epochs: how fast its rate falls depends on how many steps the data make",
            "say how many with --total-steps; codeio train prints it",
        )
    rate = learning_rate(stage, step, total or step + 1)
    return {"recipe": recipe.name, "stage": name, "step": step, "total_steps": total, "learning_rate": rate}


def _total(stage: StageRecipe, name: str, given: int | None) -> int | None:
    """The number of steps, as far as the recipe or the command line says it."""
    if given is not None and (given < 1 or stage.steps not in (None, given)):
        why = "a training has at least one step" if given < 1 else f"the recipe says that {name} has {stage.steps:,}"
        raise UserError(f"--total-steps {given}", why, "leave it out, or change the recipe")
    return stage.steps or given


def describe(path: Path, name: str, total_steps: int | None) -> dict[str, Any]:
    """Everything that a recipe says of a stage: its settings with all defaults, steps, and some learning rates.

    Raises:
        UserError: no such recipe or stage, another number of steps than the recipe's, or a model folder beside it that
            it does not fit.
    """
    recipe = load_recipe(path)
    stage = recipe.stage(name)
    model = path.parent / recipe.model
    if (model / "config.json").is_file():  # a model on the hub is looked at when it is there
        check_model(recipe, name, model)
    total = _total(stage, name, total_steps)
    common = recipe.model_dump(mode="json", exclude={"name", "stages"})
    return {
        "recipe": recipe.name,
        "stage": name,
        "file": str(path),
        **common,
        "sequence_length": recipe.length(name),
        "settings": stage.model_dump(mode="json", exclude={"sequence_length"}),
        "total_steps": total,
        "paper_steps": _paper_steps(stage),
        "learning_rates": [
            {"step": step, "learning_rate": learning_rate(stage, step, total or 0)} for step in _landmarks(stage, total)
        ],
    }


def describe_all(path: Path, step: int | None, total_steps: int | None) -> dict[str, Any]:
    """What :func:`describe` finds of each stage that the recipe is for, under "stages".

    Raises:
        UserError: no such recipe; or a step or a number of steps was given, which are one stage's.
    """
    for option, value in (("--step", step), ("--total-steps", total_steps)):
        if value is not None:
            raise UserError(f"{option} {value}", "every stage has its own steps", "say which with --stage")
    recipe = load_recipe(path)
    return {"recipe": recipe.name, "stages": [describe(path, name, None) for name in recipe.has]}


def _paper_steps(stage: StageRecipe) -> int | None:
    """Steps that the paper's samples make, where the recipe counts epochs of samples."""
    if stage.epochs is None or stage.batch_unit != "samples":
        return None
    return -(-PAPER_SAMPLES // stage.batch_size) * stage.epochs


def _landmarks(stage: StageRecipe, total: int | None) -> list[int]:
    """Steps whose rates tell the schedule: its start, the end of the warm-up, quarters, the last one."""
    if total is None:
        return [] if stage.schedule == "cosine" else sorted({0, max(0, stage.warmup_steps - 1)})
    steps = {0, stage.warmup_steps - 1, total // 4, total // 2, 3 * total // 4, total - 1}
    return sorted(step for step in steps if 0 <= step < total)


def description_text(described: Mapping[str, Any]) -> str:
    """What :func:`describe` found, for people."""
    lines = [f"{described['recipe']}, {described['stage']}  ({described['file']})"]
    lines += [f"  {heading:<15}{text}" for heading, text in _lines(described)]
    return "\n".join(lines)


def _lines(described: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    stage = StageRecipe.model_validate(described["settings"])
    total, length = described["total_steps"], described["sequence_length"]
    yield "model", f"{described['model']} ({described['initial']} weights)"
    if described["facts"]:
        yield "", _facts_text(described["facts"])
    recomputed = ", activations recomputed" if described["activation_checkpointing"] else ""
    engine = f"{described['dtype']['cuda']} on GPUs, ZeRO-{described['zero']}, attention {described['attention']}"
    yield "engine", engine + recomputed
    yield "steps", _steps_text(described)
    packed = ", packed into sequences" if stage.batch_unit == "samples" else ""
    yield "batch", f"{stage.batch_size:,} {stage.batch_unit}{packed} of at most {length:,} tokens, {stage.order}"
    yield "micro-batch", f"{plural(stage.micro_batch, 'sequence')} of each rank"
    if total and stage.batch_unit == "sequences":
        sequences = total * stage.batch_size
        yield "in all", f"{sequences:,} sequences, at most {sequences * length:,} tokens"
    betas = f"betas {stage.betas[0]:g} and {stage.betas[1]:g}"
    yield "optimiser", f"AdamW, {betas}, weight decay {stage.weight_decay:g}, gradients clipped to norm {stage.clip:g}"
    for_good = f", every {stage.keep_every:,} for good" if stage.keep_every else ""
    yield "checkpoints", f"{stage.saves_text}, the last {stage.keep} kept{for_good}"
    if stage.validation_fraction:
        yield "validation", f"{stage.validation_fraction:.3g} of the sequences, never trained, at every checkpoint"
    spike = described["spike"]
    patience = f", at {spike['patience']} in a row" if spike["action"] == "stop" else ""
    spiking = f"spikes ({spike['factor']:g} times the highest of {spike['window']} steps): {spike['action']}{patience}"
    yield "guards", f"{described['hang_minutes']:g} minutes without progress: end; {spiking}"
    falling = f" to {stage.min_lr:g}" if stage.schedule == "cosine" else ""
    warm = f", after {stage.warmup_steps} steps of warm-up" if stage.warmup_steps else ""
    yield "learning rate", f"{stage.schedule}, {stage.lr:g}{falling}{warm}"
    if total:
        yield "", _curve(stage, total)
    for each in described["learning_rates"]:
        yield "", f"step {each['step']:<6,} {each['learning_rate']:.4g}"


def _facts_text(facts: Mapping[str, Any]) -> str:
    heads = f"{facts['heads']} heads ({facts['kv_heads']} of keys and values)"
    sizes = f"width {facts['hidden']:,}, vocabulary {facts['vocabulary']:,}, context {facts['context']:,}"
    return f"{facts['architecture']}: {facts['layers']} layers, {heads}, {sizes}"


def _steps_text(described: Mapping[str, Any]) -> str:
    if described["total_steps"]:
        return f"{described['total_steps']:,}"
    epochs, paper = described["settings"]["epochs"], described["paper_steps"]
    text = f"as many as the data make in {plural(epochs, 'epoch')}"
    samples = f"{PAPER_SAMPLES / 1e6:.2f} M samples"
    return f"{text}; {paper:,} steps for the paper's {samples}, however packed" if paper else text


def _curve(stage: StageRecipe, total: int) -> str:
    """The schedule as a line of bars, from rate 0 to the highest."""
    width = min(_WIDTH, total)
    steps = [column * (total - 1) // max(1, width - 1) for column in range(width)]
    heights = [int(len(_BARS) * learning_rate(stage, step, total) / stage.lr) for step in steps]
    return "".join(_BARS[min(height, len(_BARS) - 1)] for height in heights)
