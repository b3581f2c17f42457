"""Where a drill takes place: a site file of its size, a recipe, and two runs that need no data."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from codeio_hpc import __version__
from codeio_hpc.config import RunConfig, settings_hash
from codeio_hpc.config.recipe import Recipe, load_recipe
from codeio_hpc.config.site import Resources, Site
from codeio_hpc.config.tokenizer import tokenizer_folder
from codeio_hpc.errors import UserError
from codeio_hpc.launch.jobs import batch_library
from codeio_hpc.launch.sites.files import chosen_site, load_site
from codeio_hpc.launch.sites.flags import resources_of
from codeio_hpc.stages.base import Context, Rejection
from codeio_hpc.stages.tokenise import Tokenise
from codeio_hpc.tables import Identity
from codeio_hpc.tables.manifest import Manifest, create_manifest
from codeio_hpc.tables.schemas import SEQUENCES
from codeio_hpc.tables.shards import publish_shard, stage_folder
from codeio_hpc.train.recipes import find_recipe

STEPS_ON_GPUS, STEPS_ON_CPUS = 1000, 60
"""Meant to be a minute or two. On two shared CPU cores a step of four ranks took 1 s; for GPUs this is a guess."""
_LENGTH = 512
_MICRO_BATCHES = 4
"""Of each rank in a step: a notice should meet some in the middle of one."""
_STEP_BATCHES = 2
"""Global batches in the data; they are gone through again and again."""
_NUMBERS = 40
"""In a sample; two samples make a sequence."""
_MINUTES = 30
"""Time limit of a job, or the site's if that is less: short jobs start earlier, and this one takes a few minutes."""
_SAVES = 10
"""Checkpoints of an undisturbed training."""


@dataclass(frozen=True)
class Size:
    """How large the drill is; what is None is the site's, or a default."""

    resource_class: str = "train"
    nodes: int | None = None
    ranks_per_node: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Place:
    """A folder with everything of one drill."""

    folder: Path
    site: Site
    """With the drill's resources as its class ``train``."""
    steps: int

    @property
    def site_file(self) -> Path:
        """What its jobs take for their site."""
        return self.folder / "site.yaml"

    @property
    def undisturbed(self) -> Path:
        """The run that nobody preempts."""
        return self.folder / "undisturbed"

    @property
    def preempted(self) -> Path:
        """The run that is preempted."""
        return self.folder / "preempted"

    @property
    def resources(self) -> Resources:
        """What its jobs get."""
        return resources_of(self.site, "train")


def make_place(folder: Path | None, site_name: str | None, size: Size) -> Place:
    """Everything that the drill's jobs read; nothing is submitted.

    Raises:
        UserError: the site cannot bring a job back, has no such resources, or the folder is not new.
    """
    site = _sized(load_site(chosen_site(site_name)), size)
    resources = resources_of(site, "train")
    if site.requeue == "none":
        raise UserError(
            f"site '{site.name}': requeue: none",
            "its jobs are submitted with --no-requeue: preempted, they do not come back by themselves",
            "set requeue to self or slurm, or preempt by hand and submit slurm/stage1.sh again",
        )
    batch_library()
    place = Place(_new_folder(folder, site.name), site, size.steps or _default_steps(resources))
    _write(place.site_file, site)
    recipe = _recipe(resources.nodes * resources.ranks_per_node, place.steps)
    _write(place.folder / "recipe.yaml", recipe)
    _make_run(place.undisturbed, place.folder / "recipe.yaml", recipe)
    shutil.copytree(place.undisturbed, place.preempted)
    return place


def _sized(site: Site, size: Size) -> Site:
    given = {"nodes": size.nodes, "ranks_per_node": size.ranks_per_node}
    for name, value in (given | {"steps": size.steps}).items():
        if value is not None and value < (4 if name == "steps" else 1):
            raise UserError(f"--{name.replace('_', '-')} {value}", "that is no training to preempt", "give more")
    resources = resources_of(site, size.resource_class)
    update = {name: value for name, value in given.items() if value is not None}
    update["time"] = min(resources.time, _MINUTES)
    train = resources.model_copy(update=update)
    return site.model_copy(update={"resources": site.resources.model_copy(update={"train": train})})


def _default_steps(resources: Resources) -> int:
    return STEPS_ON_GPUS if resources.gpus_per_node else STEPS_ON_CPUS


def _new_folder(folder: Path | None, site: str) -> Path:
    """Made, and empty."""
    if folder is None:
        taken = (Path("runs") / f"drill-{site}{f'-{number}' if number > 1 else ''}" for number in range(1, sys.maxsize))
        folder = next(path for path in taken if not path.exists())
    if "%" in str(folder):
        raise UserError(f"folder {folder}", "SLURM reads '%' in the path of a log as a pattern", "name it without '%'")
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"{folder} exists", "a drill starts from nothing", "name a new folder by --run") from None
    return folder.resolve()


def _write(path: Path, settings: Site | Recipe) -> None:
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def _recipe(ranks: int, steps: int) -> Recipe:
    """The tiny one, its stage 1 with that many steps, each of several micro-batches a rank."""
    path = find_recipe("tiny")
    tiny = load_recipe(path)
    update = {"epochs": None, "steps": steps, "batch_size": _MICRO_BATCHES * ranks, "batch_unit": "sequences"}
    update |= {"micro_batch": 1, "save_minutes": None, "save_every": max(2, steps // _SAVES)}
    stage = tiny.stage("stage1").model_copy(update=update)
    stages = tiny.stages.model_copy(update={"stage1": stage, "stage2": None, "rft": None})
    folder = tokenizer_folder(path).resolve()
    return tiny.model_copy(update={"model": str(folder), "sequence_length": _LENGTH, "stages": stages})


def _make_run(run: Path, recipe_path: Path, recipe: Recipe) -> None:
    config = RunConfig.model_validate(
        {"name": "drill", "recipe": str(recipe_path), "sources": [{"name": "counting", "stdlib": True}]}
    )
    create_manifest(run, Manifest(config.model_dump(mode="json"), "drill", __version__, 1, "drill"))
    stage = Tokenise()
    settings = settings_hash([config.seed, stage.name, dict(stage.settings(config))])
    sequences = _STEP_BATCHES * recipe.stage("stage1").batch_size
    context = Context(config, stage.name, 0, _no_sandbox, run / "journal")
    rows = [row for row in stage.run(list(_samples(2 * sequences)), context) if not isinstance(row, Rejection)]
    folder = stage_folder(run / "stages", stage.name)
    publish_shard(folder, Identity(SEQUENCES, stage.name, stage.version, settings, "drill", 0), rows, [])


def _no_sandbox(seed: int) -> Any:
    raise RuntimeError("tokenising runs no code")


def _samples(count: int) -> Iterator[dict[str, Any]]:
    """Counting, in words that any tokenizer knows."""
    for number in range(count):
        first, pace = divmod(number * 37, 101)
        counted = range(first, first + _NUMBERS * (pace + 1), pace + 1)
        question = {"role": "user", "content": f"Count from {first} in steps of {pace + 1}."}
        answer = {"role": "assistant", "content": ", ".join(map(str, counted))}
        yield {
            "sample_id": f"s{number:06d}",
            "language": "python",
            "training_stage": "stage1",
            "messages": [question, answer],
            "difficulty": 0.0,
            "repeats": 1,
        }
