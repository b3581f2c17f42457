"""``run.json``: what a run is. Created exclusively, never changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codeio_hpc.tables.files import publish_file

_LONGEST = 60
"""Characters of a value in a message."""
NAME = "run.json"


@dataclass(frozen=True)
class Manifest:
    """The frozen facts of a run."""

    config: dict[str, Any]
    """The resolved configuration, as plain JSON data."""
    identity: str
    """SHA-256 of the settings that decide what is built."""
    code_version: str
    shards: int
    """Number of shards; fixed when the run is created."""
    sources: str
    """Checksum over the list of source files that the run was created from."""


def create_manifest(run: Path, manifest: Manifest) -> None:
    """Write ``run.json``, exclusively.

    Raises:
        FileExistsError: another process created the run first.
    """
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n"
    publish_file(run / NAME, text.encode("utf-8"), exclusive=True)


def read_manifest(run: Path) -> Manifest | None:
    """The manifest of a run folder; None if there is none.

    Raises:
        ValueError: the file is there but is not a manifest.
    """
    try:
        text = (run / NAME).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return Manifest(**json.loads(text))
    except TypeError as error:
        raise ValueError(str(error)) from None


def differing_keys(ours: Any, theirs: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of the settings in which two configurations differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from differing_keys(ours.get(key), theirs.get(key), f"{prefix}.{key}" if prefix else key)
    elif ours != theirs:
        yield prefix


def changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The settings in which these differ, with both values, for people; of hashes the beginning."""
    return "; ".join(
        f"{key} was {_value(before, key)}, is now {_value(now, key)}" for key in differing_keys(before, now)
    )


def _value(settings: Any, key: str) -> str:
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    text = json.dumps(settings)
    return text if len(text) <= _LONGEST else f"{text[:12]}..."
