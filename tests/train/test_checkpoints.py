"""Saving and finding checkpoints: killed at every moment, on a full disk, with damaged files."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import torch

from codeio_hpc.errors import RunFailedError, UserError
from codeio_hpc.train.checkpoints import resume
from codeio_hpc.train.checkpoints.files import MARKER, Complete, published, superfluous
from codeio_hpc.train.checkpoints.random import RandomState, seed
from codeio_hpc.train.checkpoints.saver import Rules, Saver
from codeio_hpc.train.engines.base import Part

RANDOM = RandomState({"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": ("x",)})


class Alone:
    """One rank."""

    rank, size = 0, 1

    def gather(self, value: Any) -> list[Any]:
        return [value]


class Engine:
    """Its state is a number in three files."""

    def __init__(self) -> None:
        self.value = 0
        self.parameter_count = 10
        self.layout = "three files"
        self.written = threading.Event()
        self.written.set()

    def snapshot(self, folder: Path) -> list[Part]:
        value = str(self.value).encode()

        def write(file: IO[bytes]) -> None:
            self.written.wait(10)
            file.write(value * 1000)

        return [(folder / "engine" / f"{name}.pt", write) for name in "abc"]


def rules(folder: Path, keep: int = 2, keep_every: int | None = None) -> Rules:
    return Rules(folder / "checkpoints", "identity", "tokenizer", keep, keep_every, {"lr": 0.1})


def saver_of(folder: Path, engine: Engine, **settings: Any) -> Saver:
    return Saver(rules(folder, **settings), engine, Alone())  # type: ignore[arg-type]


def save(saver: Saver, engine: Engine, step: int, loss: float | None = None) -> None:
    engine.value = step
    saver.begin(step, RANDOM, samples=10 * step, overflows=0, validation_loss=loss)
    saver.finish()


def find(folder: Path) -> tuple[Path, Complete] | None:
    return resume.find(folder / "checkpoints", "identity", {"lr": 0.1}, Alone())  # type: ignore[arg-type]


def steps(folder: Path) -> list[int]:
    return [complete.step for _, complete in published(folder / "checkpoints")]


def content(path: Path) -> set[bytes]:
    return {(path / "engine" / f"{name}.pt").read_bytes() for name in "abc"}


def test_the_newest_checkpoint_is_found_with_all_that_it_says(tmp_path: Path) -> None:
    engine = Engine()
    saver = saver_of(tmp_path, engine)
    assert find(tmp_path) is None
    for step in (4, 8, 12):
        save(saver, engine, step)
    saver.close()
    assert steps(tmp_path) == [8, 12]
    path, complete = find(tmp_path) or pytest.fail("none")
    assert (complete.step, complete.samples, complete.ranks, complete.tokenizer) == (12, 120, 1, "tokenizer")
    assert complete.layout == "three files"
    assert content(path) == {b"12" * 1000}
    saver.require(12)
    with pytest.raises(RunFailedError, match="could not be saved"):
        saver.require(13)


def test_steps_beyond_six_digits_are_still_in_order(tmp_path: Path) -> None:
    engine = Engine()
    saver = saver_of(tmp_path, engine)
    for step in (999_999, 1_000_000):
        save(saver, engine, step)
    assert (find(tmp_path) or pytest.fail("none"))[1].step == 1_000_000


def test_what_is_written_is_the_state_at_the_call_while_training_goes_on(tmp_path: Path) -> None:
    engine = Engine()
    engine.written.clear()
    saver = saver_of(tmp_path, engine)
    engine.value = 4
    saver.begin(4, RANDOM, 0, 0, None)
    engine.value = 5
    assert saver.pending and saver.busy and not steps(tmp_path)
    engine.written.set()
    saver.finish()
    assert not saver.pending and saver.saved == 4
    assert content((find(tmp_path) or pytest.fail("none"))[0]) == {b"4" * 1000}


def test_the_best_by_validation_and_every_nth_are_kept_beside_the_newest(tmp_path: Path) -> None:
    engine = Engine()
    saver = saver_of(tmp_path, engine, keep=1, keep_every=100)
    for step, loss in ((50, 2.0), (100, 1.5), (150, 1.0), (200, 1.2), (250, 1.3), (300, 1.4), (350, 1.5)):
        save(saver, engine, step, loss)
    saver.close()
    assert steps(tmp_path) == [100, 150, 200, 300, 350]


def test_without_validation_none_is_the_best() -> None:
    whole = [(Path(f"step-{n}"), Complete(n, 1, "", "", "", 0, 0, None, {})) for n in range(1, 5)]
    assert [path.name for path, _ in superfluous(whole, 2, None)] == ["step-1", "step-2"]


def operations() -> list[tuple[Any, str]]:
    return [(os, name) for name in ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "open")]


def in_a_child(work: Any, kill_at: int) -> bool:
    """Do the work in a forked process that is killed at its n-th operation on files; whether it got to the end."""
    child = os.fork()
    if child == 0:
        count = 0
        for module, name in operations():
            usual = getattr(module, name)

            def counted(*arguments: Any, usual: Any = usual, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return usual(*arguments, **named)

            setattr(module, name, counted)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def test_killed_at_any_operation_on_files_the_newest_published_one_is_whole_and_never_lost(tmp_path: Path) -> None:
    """Every call that changes the disk, one by one; then saving goes on where the kill left things."""
    engine = Engine()
    before = tmp_path / "before"
    saver = saver_of(before, engine)
    save(saver, engine, 4)
    save(saver, engine, 8)
    saver.close()

    def two_more(folder: Path) -> None:
        engine = Engine()
        saver = saver_of(folder, engine)
        save(saver, engine, 12)
        save(saver, engine, 16)
        saver.close()

    found = set()
    for kill_at in range(1, 1000):
        folder = tmp_path / f"killed-{kill_at}"
        shutil.copytree(before, folder)
        ended = in_a_child(lambda folder=folder: two_more(folder), kill_at)
        path, complete = find(folder) or pytest.fail("lost")
        assert content(path) == {str(complete.step).encode() * 1000}
        assert complete.step >= 8
        found.add(complete.step)
        saver = saver_of(folder, engine)
        save(saver, engine, 20)
        saver.close()
        assert steps(folder)[-1] == 20
        assert not [path.name for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")]
        shutil.rmtree(folder)
        if ended:
            break
    assert ended and found == {8, 12, 16} and kill_at > 40


def test_a_full_disk_is_an_alarm_and_the_last_one_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine()
    saver = saver_of(tmp_path, engine)
    save(saver, engine, 4)
    usual = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    save(saver, engine, 8)
    monkeypatch.setattr(os, "fsync", usual)
    assert "ALARM: the checkpoint of step 8 was not saved: rank 0: [Errno 28]" in capsys.readouterr().err
    assert saver.saved == 4 and steps(tmp_path) == [4]
    # what was written of it would take the room of those to come
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000004"]
    save(saver, engine, 12)
    assert steps(tmp_path) == [4, 12]


@pytest.mark.parametrize("what", ["write_synced", "publish_folder", "published"])
def test_a_disk_that_fails_rank_0_alone_is_an_alarm_too(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine()
    saver = saver_of(tmp_path, engine)
    save(saver, engine, 4)

    def full(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(f"codeio_hpc.train.checkpoints.files.{what}", full)
        save(saver, engine, 8)
    assert "ALARM: the checkpoint of step 8 was not saved: [Errno 122]" in capsys.readouterr().err
    assert saver.saved == 4 and steps(tmp_path) == [4]
    save(saver, engine, 12)
    assert saver.saved == 12 and steps(tmp_path) == [4, 12]


def test_older_checkpoints_that_cannot_be_removed_are_an_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine()
    saver = saver_of(tmp_path, engine, keep=1)
    save(saver, engine, 4)

    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    save(saver, engine, 8)
    saver.close()
    assert re.search("ALARM: older checkpoints were not removed: .*step-000004", capsys.readouterr().err)
    assert saver.saved == 8


def test_too_little_room_is_seen_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine()
    saver = saver_of(tmp_path, engine)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    save(saver, engine, 4)
    assert "a checkpoint needs 160 bytes and 100 are free" in capsys.readouterr().err
    assert not steps(tmp_path) and saver.saved is None


def damage(kind: str, path: Path) -> None:
    part = path / "engine" / "b.pt"
    if kind == "a flipped bit":
        data = bytearray(part.read_bytes())
        data[5] ^= 1
        part.write_bytes(data)
    elif kind == "a cut file":
        part.write_bytes(part.read_bytes()[:-1])
    elif kind == "a missing file":
        part.unlink()
    elif kind == "no marker":
        (path / MARKER).unlink()
    elif kind == "a cut marker":
        (path / MARKER).write_text((path / MARKER).read_text()[:-20])
    elif kind == "a marker of something else":
        (path / MARKER).write_text("[1, 2]")
    else:
        marker = json.loads((path / MARKER).read_text())
        (path / MARKER).write_text(json.dumps(marker | {"step": 4}))


DAMAGE = {
    "a flipped bit": r"the content of engine/b\.pt has changed",
    "a cut file": r"engine/b\.pt has [\d,]+ bytes instead of [\d,]+",
    "a missing file": r"engine/b\.pt is missing",
    "no marker": r"COMPLETE\.json is missing",
    "a cut marker": r"COMPLETE\.json cannot be read",
    "a marker of something else": r"COMPLETE\.json cannot be read",
    "a marker of another step": "it is of step 4",
}
"""Kind: what is said of it."""


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_an_alarm(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine()
    saver = saver_of(tmp_path, engine)
    save(saver, engine, 4)
    save(saver, engine, 8)
    damage(kind, tmp_path / "checkpoints" / "step-000008")
    assert (find(tmp_path) or pytest.fail("none"))[1].step == 4
    assert re.search(rf"step-000008 is damaged \({DAMAGE[kind]}\); passed over", capsys.readouterr().err)
    save(saver, engine, 8)  # takes the place of the damaged one
    assert (find(tmp_path) or pytest.fail("none"))[1].step == 8


def test_a_damaged_one_that_was_passed_over_is_not_kept_instead_of_a_newer_whole_one(tmp_path: Path) -> None:
    engine = Engine()
    before = saver_of(tmp_path, engine, keep=2)
    save(before, engine, 4)
    save(before, engine, 8)
    damage("a flipped bit", tmp_path / "checkpoints" / "step-000008")
    saver = saver_of(tmp_path, engine, keep=1)
    save(saver, engine, 6)
    saver.close()
    assert (find(tmp_path) or pytest.fail("none"))[1].step == 6


def test_with_nothing_but_damaged_ones_training_does_not_start_afresh_in_silence(tmp_path: Path) -> None:
    engine = Engine()
    saver = saver_of(tmp_path, engine)
    save(saver, engine, 4)
    damage("a flipped bit", tmp_path / "checkpoints" / "step-000004")
    with pytest.raises(UserError, match="no checkpoint is whole any more"):
        find(tmp_path)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    engine = Engine()
    save(saver_of(tmp_path, engine), engine, 4)
    with pytest.raises(UserError, match=r"other settings, data or tokenizer: lr was 0\.1, is now 0\.2"):
        resume.find(tmp_path / "checkpoints", "another", {"lr": 0.2}, Alone())  # type: ignore[arg-type]


@pytest.fixture
def generators() -> Iterator[None]:
    before = RandomState.now()
    yield
    before.restore()


def test_random_numbers_go_on_where_they_were(tmp_path: Path, generators: None) -> None:
    import numpy as np

    seed(3, 1)
    with open(tmp_path / "state", "wb") as file:
        RandomState.now().write(file)
    drawn = torch.rand(3).tolist(), random.random(), np.random.rand()
    RandomState.read(tmp_path / "state").restore()
    assert drawn == (torch.rand(3).tolist(), random.random(), np.random.rand())
    seed(3, 0)
    assert drawn != (torch.rand(3).tolist(), random.random(), np.random.rand())
