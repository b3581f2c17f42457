"""Sandboxes at every isolation level that this host gives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from codeio_hpc.sandbox import Limits, Pool
from tests.sandbox.asking import LEVELS


@pytest.fixture(scope="module")
def strong_pool() -> Iterator[Pool]:
    """For what does not depend on the level."""
    with Pool(limits=Limits(cpu_seconds=2), level=LEVELS[0]) as pool:
        yield pool


@pytest.fixture(scope="module", params=LEVELS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """A pool at each level, shared by the tests of a file."""
    with Pool(limits=Limits(cpu_seconds=2), level=request.param) as pool:
        yield pool
