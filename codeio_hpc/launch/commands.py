"""What `codeio build`, `resume` and `status` do; each returns plain data for the command line to print."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeio_hpc.config import RunConfig, apply_overrides, load_yaml, merge, parse
from codeio_hpc.config.policy import refuse_weak_isolation
from codeio_hpc.config.recipe import recipe_of
from codeio_hpc.config.tokenizer import tokenizer_folder
from codeio_hpc.errors import UserError
from codeio_hpc.launch.progress import Tally
from codeio_hpc.launch.run import Run, create_or_open_run, open_run, point_latest
from codeio_hpc.stages.benchmarks import read_items

if TYPE_CHECKING:
    from codeio_hpc.config.site import Site


PRESETS = Path("configs/runs/ablations")


def read_config(path: Path, overrides: Sequence[str], presets: Sequence[str] = ()) -> RunConfig:
    """The run configuration in a YAML file, with presets and then overrides applied; its recipe, tokenizer and
    benchmarks are looked up too, since the last stages need them and a build may take days to get there.

    Raises:
        UserError: see :func:`codeio_hpc.config.load_yaml`, :func:`codeio_hpc.config.parse`,
            :func:`codeio_hpc.config.recipe.recipe_of`, :func:`codeio_hpc.config.tokenizer.tokenizer_folder`,
            :func:`codeio_hpc.stages.benchmarks.read_items`, :func:`codeio_hpc.config.policy.refuse_weak_isolation`.
    """
    data = load_yaml(path)
    for preset in presets:
        data = merge(data, load_yaml(_preset_path(preset)))
    config = parse(RunConfig, apply_overrides(data, overrides), str(path))
    refuse_weak_isolation(config.sandbox.minimum)
    if config.recipe is not None:
        recipe_of(config)
        tokenizer_folder(Path(config.recipe))
    for benchmark in config.decontaminate.benchmarks:
        for _ in read_items(benchmark):
            pass
    for folder in config.launch.reuse:
        open_run(Path(folder))
    return config


def _preset_path(name: str) -> Path:
    """The file of a preset: a name in :data:`PRESETS`, or a path."""
    path = Path(name) if name.endswith((".yaml", ".yml")) or "/" in name else PRESETS / f"{name}.yaml"
    if path.exists() or path.parent != PRESETS:
        return path
    known = sorted(entry.stem for entry in PRESETS.glob("*.yaml"))
    raise UserError(
        f"preset '{name}'",
        f"there is no file {path}",
        f"known presets: {', '.join(known) or 'none here'}; or give a file: --preset PATH.yaml",
    )


def build(
    config_path: Path,
    overrides: Sequence[str],
    presets: Sequence[str],
    folder: Path | None,
    site: Site | None,
    wait: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Create the run if it is not there, and carry it on."""
    config = read_config(config_path, overrides, presets)
    run = create_or_open_run(
        folder or Path("runs") / config.name, config, listed=Tally("listing sources", "raw files", quiet=quiet)
    )
    run = Run(run.folder, run.config.model_copy(update={"launch": config.launch}), run.shards)
    point_latest(run)
    return carry_on(run, site, wait, quiet)


def resume(folder: Path, site: Site | None, wait: bool, quiet: bool) -> dict[str, Any]:
    """Carry an existing run on."""
    run = open_run(folder)
    refuse_weak_isolation(run.config.sandbox.minimum)
    return carry_on(run, site, wait, quiet)


def carry_on(run: Run, site: Site | None, wait: bool, quiet: bool) -> dict[str, Any]:
    """Do (or submit) everything that is missing; the run's status, with what was done."""
    from codeio_hpc.launch.build import build_locally, jobs_at_work, submit_to_slurm, wait_for_slurm
    from codeio_hpc.launch.status import run_status

    if site is None:
        worked = build_locally(run, quiet)
        return {**run_status(run), "worked": worked, "submitted": None, "at_work": []}
    at_work = jobs_at_work(run)
    submitted = None if at_work else submit_to_slurm(run, site)
    if wait and (at_work or submitted):
        wait_for_slurm(run, quiet)
    return {**run_status(run), "worked": bool(at_work or submitted), "submitted": submitted, "at_work": at_work}


def dry_run(
    config_path: Path, overrides: Sequence[str], presets: Sequence[str], folder: Path | None, site: Site | None
) -> dict[str, Any]:
    """What `build` would do, without writing anything: stages, shards, tasks and the batch script."""
    from codeio_hpc.launch.executors import slurm_parameters
    from codeio_hpc.launch.plan import share_out, steps
    from codeio_hpc.stages.collect import list_sources

    config = read_config(config_path, overrides, presets)
    target = (folder or Path("runs") / config.name).resolve()
    files = sum(1 for _ in list_sources(config))
    shards = -(-files // config.collect.files_per_shard)
    run = Run(target, config, shards)
    tasks = share_out(range(shards), config.launch.tasks if site else max(1, config.launch.workers))
    plan: dict[str, Any] = {"run": str(target), "files": files, "shards": shards, "steps": []}
    for step in steps(run):
        entry: dict[str, Any] = {
            "step": step.name,
            "stages": [place.stage.name for place in step.places],
            "tasks": [len(task) for task in tasks],
        }
        if site is not None:
            parameters = slurm_parameters(run, site, step.name, len(tasks))
            entry["script"] = _rendered(target / "logs" / f"step{step.number}-round000", parameters, len(tasks))
        plan["steps"].append(entry)
    return plan


def _rendered(folder: Path, parameters: dict[str, Any], tasks: int) -> str:
    """The batch script that submitit would write, made by submitit itself."""
    from submitit.slurm.slurm import _make_sbatch_string

    python = f"{os.path.abspath(os.sys.executable)} -u -m submitit.core._submit {folder}"  # type: ignore[attr-defined]
    text: str = _make_sbatch_string(command=python, folder=folder, map_count=tasks, **parameters)
    return text


def status(folder: Path) -> dict[str, Any]:
    """The state of a run."""
    from codeio_hpc.launch.status import run_status

    return run_status(open_run(folder))
