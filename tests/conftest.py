"""What tests of several rooms share: a small run configuration over real files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.launch.plan import places
from codeio_hpc.launch.run import open_run
from codeio_hpc.tables.shards import read_stage
from tests.containers import image

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""The tests' models are so small that threads wait for each other only, and the more so beside another worker's."""

ROOT = Path(__file__).parents[1]
SOURCES = Path(__file__).parent / "sources"

CONFIG = f"""
name: small
seed: 5
recipe: {ROOT}/configs/models/tiny.yaml
sources:
  - {{name: here, path: {SOURCES}, licence: Apache-2.0}}
collect: {{files_per_shard: 1}}
sample: {{pairs: 4}}
teacher: {{kind: tracer, error_rate: 0.5}}
assemble: {{format: codeio++, instructions: direct-answers}}
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is opened in a test and closed after it."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def exec_image() -> image.Image:
    """The container image of this checkout for data tasks, and Apptainer."""
    return image.built_image(image.EXEC)


@pytest.fixture(scope="session")
def train_image() -> image.Image:
    """The one for training."""
    return image.built_image(image.TRAIN)


@pytest.fixture
def small_config(tmp_path: Path) -> Path:
    """A configuration that builds a dataset from tests/sources in a few seconds."""
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def rows_of(run: Path, stage: str) -> list[dict[str, Any]]:
    """All rows that a stage of a run has published."""
    [place] = [place for place in places(open_run(run)) if place.stage.name == stage]
    return list(read_stage(place.folder))


def dataset_bytes(run: Path) -> dict[str, str]:
    """SHA-256 of every published file of a run's dataset, by name."""
    files: dict[str, Any] = {}
    for path in sorted((run / "stages").rglob("*")):
        if path.is_file() and not path.name.startswith("."):  # what a killed writer leaves was never published
            files[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return files
