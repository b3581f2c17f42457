"""Folders that jails may see go with their worker, or soon after."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codeio_hpc.sandbox.jail.scratch import PREFIX, ScratchFolder

KILLED = """
import os
from codeio_hpc.sandbox.jail.scratch import ScratchFolder

print(ScratchFolder().path, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_worker_left_is_removed_by_the_next_one_and_nothing_else(place: Path) -> None:
    environment = os.environ | {"TMPDIR": str(place)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True)
    left = Path(done.stdout.strip())
    (left / "work").mkdir()
    other, link = place / "other", place / f"{PREFIX}link"
    other.mkdir()
    link.symlink_to(other)
    with ScratchFolder() as held:
        for path in (left, Path(held.path)):
            os.utime(path, (0, 0))
        with ScratchFolder() as new:
            assert not left.exists() and Path(held.path).is_dir() and Path(new.path).is_dir()
            assert other.is_dir() and link.is_symlink()
    assert sorted(place.iterdir()) == [link, other]


def test_a_folder_that_is_just_made_is_left_alone(place: Path) -> None:
    young = place / f"{PREFIX}young"
    young.mkdir()
    with ScratchFolder():
        assert young.is_dir()
