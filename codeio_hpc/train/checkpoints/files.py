"""What lies in a folder of checkpoints: which are whole, which go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.launch import trainings
from codeio_hpc.tables.files import publish_folder, write_synced
from codeio_hpc.tables.manifest import changes

MARKER = trainings.MARKER
HEADROOM = 1.1
"""Room that must be free, as a multiple of what the last checkpoint took."""
BYTES_A_PARAMETER = 16
"""Guess before the first checkpoint: float32 weights, two moments, and a copy of the weights."""


@dataclass(frozen=True)
class Complete:
    """What a published checkpoint says of itself."""

    step: int
    """Optimiser steps that were done."""
    ranks: int
    layout: str
    """Of the engine's files (:attr:`codeio_hpc.train.engines.base.Engine.layout`)."""
    identity: str
    """Of recipe, data, tokenizer, seed and start; a checkpoint goes on only with the same."""
    tokenizer: str
    """Fingerprint of tokenizer and chat template."""
    samples: int
    """That were trained, each counted as often as it was."""
    overflows: int
    """Repeated steps of float16."""
    validation_loss: float | None
    files: dict[str, dict[str, Any]]
    """Relative path: {"bytes", "sha256"}"""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the identity is of, by name."""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(int(facts["bytes"]) for facts in self.files.values())


def checkpoint_name(step: int) -> str:
    """The name of a published checkpoint's folder."""
    return f"step-{step:06d}"


def published(folder: Path) -> list[tuple[Path, Complete]]:
    """Checkpoints whose marker is there and whose files have the sizes it says, oldest first."""
    found = [(path, complete) for path in folder.glob("step-*") if isinstance(complete := _read(path), Complete)]
    return sorted(found, key=lambda each: each[1].step)


def not_whole(folder: Path) -> list[tuple[Path, str]]:
    """Folders that are named like checkpoints and are none, and why."""
    return [(path, fault) for path in sorted(folder.glob("step-*")) if isinstance(fault := _read(path), str)]


def _read(path: Path) -> Complete | str:
    """What a checkpoint says of itself; if it is not whole, what is wrong."""
    try:
        complete = Complete(**json.loads((path / MARKER).read_text(encoding="utf-8")))
        sizes = {name: int(facts["bytes"]) for name, facts in complete.files.items()}
    except FileNotFoundError:
        return f"{MARKER} is missing"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"{MARKER} cannot be read"
    for name, size in sizes.items():
        try:
            found = (path / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found:,} bytes instead of {size:,}"
    return complete if path.name == checkpoint_name(complete.step) else f"it is of step {complete.step:,}"


def check_identity(path: Path, complete: Complete, identity: str, settings: Mapping[str, Any]) -> None:
    """Refuse to go on from another training's checkpoint. ``settings`` are what the ``identity`` is of.

    Raises:
        UserError: it is one.
    """
    if complete.identity != identity:
        differing = changes(complete.settings, dict(settings)) if complete.settings else "which ones, it does not say"
        raise UserError(
            f"{path}: a checkpoint of other settings, data or tokenizer: {differing}",
            "going on from it would mix two trainings",
            f"restore them, or remove {path.parent} to start this stage afresh",
        )


def make_room(folder: Path, staging: Path, parameters: int) -> str | None:
    """Make an empty staging folder where the disk has room for a checkpoint; what is wrong, or None."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(staging, ignore_errors=True)
    earlier = published(folder)
    needed = earlier[-1][1].bytes if earlier else BYTES_A_PARAMETER * parameters
    free = shutil.disk_usage(folder).free
    if free < needed * HEADROOM:
        return f"{folder}: a checkpoint needs {needed:,} bytes and {free:,} are free"
    staging.mkdir()
    return None


def publish(staging: Path, complete: Complete) -> Path:
    """The marker, then the name: from here on it is a checkpoint."""
    final = staging.with_name(checkpoint_name(complete.step))
    write_synced(staging / MARKER, json.dumps(asdict(complete), indent=1) + "\n")
    replaced = final.with_name(f".{final.name}.replaced")  # a damaged one of the same step
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    publish_folder(staging, final)
    shutil.rmtree(replaced, ignore_errors=True)
    return final


def rotate(folder: Path, keep: int, keep_every: int | None, newest: int) -> None:
    """Remove whole checkpoints but the newest ``keep``, the multiples of ``keep_every``, and the best by validation.

    The step of the ``newest`` is given: those beyond it were passed over when training went on, because their content
    had changed, and must not be kept instead of it.
    """
    whole = [each for each in published(folder) if each[1].step <= newest]
    for path, _ in superfluous(whole, keep, keep_every):
        hidden = path.with_name(f".{path.name}.old")  # unpublished first: a kill leaves no half one under its name
        path.rename(hidden)
        shutil.rmtree(hidden)


def superfluous(
    whole: Sequence[tuple[Path, Complete]], keep: int, keep_every: int | None
) -> list[tuple[Path, Complete]]:
    """Those that :func:`rotate` removes."""
    measured = [each for each in whole if each[1].validation_loss is not None]
    best = min(measured, key=lambda each: each[1].validation_loss or 0.0, default=None)
    return [
        each
        for each in whole[:-keep]
        if not (keep_every and each[1].step % keep_every == 0) and (best is None or each[0] != best[0])
    ]


def clear(folder: Path) -> None:
    """Remove what kills left behind, before anything is saved."""
    for stale in folder.glob(".step-*"):
        shutil.rmtree(stale)
