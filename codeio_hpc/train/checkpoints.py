"""Checkpoints: staging, complete, published.

All ranks write into a hidden folder and put their files on disk; rank 0 then writes ``COMPLETE.json``, with size and
hash of every file, and renames the folder to ``step-NNNNNN``. A kill at any moment leaves either a published
checkpoint or a hidden folder that nobody resumes from.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.tables.files import publish_folder, sha256, sync, write_synced
from codeio_hpc.train.engines.base import Engine
from codeio_hpc.train.world import World

MARKER = "COMPLETE.json"
_HEADROOM = 1.1
_BYTES_A_PARAMETER = 16
"""Guess before the first checkpoint: float32 weights, two moments, and a copy of the weights."""


@dataclass(frozen=True)
class Complete:
    """What a published checkpoint says of itself."""

    step: int
    ranks: int
    identity: str
    """Of recipe, data, tokenizer, seed and start; a checkpoint goes on only with the same."""
    files: dict[str, dict[str, Any]]
    """Relative path: {"bytes", "sha256"}"""


def published(folder: Path) -> list[tuple[Path, Complete]]:
    """Checkpoints whose marker is there and whose files have the sizes it says, oldest first."""
    found = []
    for path in sorted(folder.glob("step-*")):
        try:
            complete = Complete(**json.loads((path / MARKER).read_text(encoding="utf-8")))
            whole = all((path / name).stat().st_size == facts["bytes"] for name, facts in complete.files.items())
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if whole and path.name == _name(complete.step):
            found.append((path, complete))
    return found


def resumable(folder: Path, identity: str, ranks: int) -> tuple[Path, Complete] | None:
    """The newest whole checkpoint; None if there is none.

    Raises:
        UserError: it was saved by another number of ranks, or of a training with other settings or data.
    """
    whole = published(folder)
    if not whole:
        return None
    path, complete = whole[-1]
    if complete.identity != identity:
        raise UserError(
            f"{path}: a checkpoint of other settings, data or tokenizer",
            "going on from it would mix two trainings",
            f"restore them, or remove {folder} to start this stage afresh",
        )
    if complete.ranks != ranks:
        raise UserError(
            f"{path}: saved by {complete.ranks} ranks, but there are {ranks}",
            "the optimiser's state is divided among the ranks",
            f"use {complete.ranks} ranks, or remove {folder} to start this stage afresh",
        )
    return path, complete


def save(folder: Path, step: int, engine: Engine, world: World, identity: str, keep: int) -> Path:
    """Publish a checkpoint after ``step`` optimiser steps; all ranks call this. Then all but the newest ``keep`` go.

    Raises:
        RunFailedError: the disk has no room; the checkpoints that are there stay.
    """
    final, staging = folder / _name(step), folder / f".{_name(step)}.staging"
    problem = _make_room(folder, staging, engine) if world.rank == 0 else None
    problem = engine.gather(problem)[0]
    if problem:
        raise RunFailedError(problem)
    engine.save(staging)
    _save_random(staging / f"rng-{world.rank:05d}.pt")
    engine.gather(None)
    mine = {str(path.relative_to(staging)): _facts(path) for path in _files_of(staging, world.rank)}
    files = {name: facts for part in engine.gather(mine) for name, facts in part.items()}
    if world.rank == 0:
        complete = Complete(step, world.size, identity, dict(sorted(files.items())))
        write_synced(staging / MARKER, json.dumps(asdict(complete), indent=1) + "\n")
        shutil.rmtree(final, ignore_errors=True)  # a damaged one of the same step
        publish_folder(staging, final)
        for old, _ in published(folder)[:-keep]:
            _remove(old)
    engine.gather(None)
    return final


def load(path: Path, complete: Complete, engine: Engine, world: World) -> None:
    """Restore everything that :func:`save` put away; all ranks call this.

    Raises:
        RunFailedError: a file's content is not what the marker says.
    """
    damaged = [
        name
        for name, facts in complete.files.items()
        if _owner(name) == world.rank and sha256(path / name) != facts["sha256"]
    ]
    damaged = [name for part in engine.gather(damaged) for name in part]
    if damaged:
        raise RunFailedError(f"{path}: {', '.join(damaged)} is damaged; remove the folder to go on from an older one")
    engine.load(path)
    _load_random(path / f"rng-{world.rank:05d}.pt")


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _owner(name: str) -> int:
    """The rank that writes and hashes a file; rank 0 writes what is common."""
    match = re.search(r"zero_pp_rank_(\d+)_|rng-(\d+)\.pt$", name)
    return int(match.group(1) or match.group(2)) if match else 0


def _files_of(staging: Path, rank: int) -> list[Path]:
    files = [path for path in sorted(staging.rglob("*")) if path.is_file()]
    return [path for path in files if _owner(str(path.relative_to(staging))) == rank]


def _facts(path: Path) -> dict[str, Any]:
    sync(path)
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _make_room(folder: Path, staging: Path, engine: Engine) -> str | None:
    """Clear what kills left behind and look at the disk; what is wrong, or None."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(".step-*"):
        shutil.rmtree(stale)
    sizes = [sum(facts["bytes"] for facts in complete.files.values()) for _, complete in published(folder)]
    needed = sizes[-1] if sizes else _BYTES_A_PARAMETER * sum(p.numel() for p in engine.module.parameters())
    free = shutil.disk_usage(folder).free
    if free < needed * _HEADROOM:
        return f"{folder}: a checkpoint needs {needed:,} bytes and {free:,} are free; the last one stays as it is"
    staging.mkdir()
    return None


def _remove(path: Path) -> None:
    """Unpublish first, so that a kill in between leaves no half checkpoint under its name."""
    hidden = path.with_name(f".{path.name}.old")
    path.rename(hidden)
    shutil.rmtree(hidden)


def _save_random(path: Path) -> None:
    import numpy as np
    import torch

    state = {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": np.random.get_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    torch.save(state, path)


def _load_random(path: Path) -> None:
    import numpy as np
    import torch

    state = torch.load(path, weights_only=False)  # our own file, its hash was checked
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
