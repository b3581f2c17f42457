"""Records and logs of what is over, in archives: there at any time, and once."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.launch import packed
from codeio_hpc.launch.attempts import read_attempts, start_attempt
from codeio_hpc.launch.packed import NAME, pack_all, pack_round, packed_names, packed_text


def records(run: Path, number: int, tasks: int = 3) -> tuple[Path, list[Path]]:
    """The folder of a round, and the records of its attempts."""
    attempts = [start_attempt(run, f"step1-round{number:03d}", task, step=1) for task in range(tasks)]
    for attempt in attempts:
        attempt.finish(run, "done")
    folder = run / "logs" / f"step1-round{number:03d}"
    folder.mkdir(parents=True)
    return folder, [run / "attempts" / f"{attempt.name}.json" for attempt in attempts]


def tasks_read(run: Path) -> list[tuple[str, int]]:
    return [(attempt.work, attempt.task) for attempt in read_attempts(run)]


def damage(archive: Path) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])


def test_packed_records_and_logs_are_read_like_others(tmp_path: Path) -> None:
    wanted = [(f"step1-round{number:03d}", task) for number in range(2) for task in range(3)]
    for number in range(2):
        folder, paths = records(tmp_path, number)
        (folder / "1_0_0_log.out").write_text(f"log {number}", encoding="utf-8")
        pack_round(tmp_path, folder, [*paths, folder / "1_0_0_log.out", folder / "1_1_0_log.out"])
        assert [path.name for path in folder.iterdir()] == [NAME]
    assert not list((tmp_path / "attempts").iterdir()) and tasks_read(tmp_path) == wanted
    found = packed_text(tmp_path, "logs/step1-round001/1_0_0_log.out")
    assert found == ("log 1", tmp_path / "logs" / "step1-round001" / NAME)
    names = packed_names(tmp_path)
    pack_all(tmp_path, [])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [NAME]
    assert tasks_read(tmp_path) == wanted and packed_names(tmp_path) == names and len(names) == 8
    _, paths = records(tmp_path, 2)
    pack_all(tmp_path, paths)
    assert len(tasks_read(tmp_path)) == 9 and not list((tmp_path / "attempts").iterdir())


@pytest.mark.parametrize("removed", [0, 2])
def test_what_was_killed_while_it_packed_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    folder, paths = records(tmp_path, 0)
    with monkeypatch.context() as killed:
        killed.setattr(packed, "_remove_packed", lambda *of: [path.unlink() for path in paths[:removed]])
        pack_round(tmp_path, folder, paths)
    wanted = [("step1-round000", task) for task in range(3)]
    assert tasks_read(tmp_path) == wanted and len(list((tmp_path / "attempts").iterdir())) == 3 - removed
    pack_round(tmp_path, folder, paths)
    assert tasks_read(tmp_path) == wanted and not list((tmp_path / "attempts").iterdir())


def test_of_two_that_pack_at_the_same_time_the_second_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw some of the records only: the first was removing them."""
    folder, paths = records(tmp_path, 0)
    real = packed._zipped

    def overtaken(*entries: object) -> bytes:
        monkeypatch.setattr(packed, "_zipped", real)
        pack_round(tmp_path, folder, paths)
        return real([])

    monkeypatch.setattr(packed, "_zipped", overtaken)
    pack_round(tmp_path, folder, paths)
    assert len(tasks_read(tmp_path)) == 3


def test_a_record_that_its_attempt_still_writes_stays_and_counts(tmp_path: Path) -> None:
    """SLURM had lost sight of its node."""
    folder, paths = records(tmp_path, 0)
    pack_round(tmp_path, folder, paths)
    lost = next(iter(read_attempts(tmp_path)))
    lost.finish(tmp_path, "superseded")
    pack_round(tmp_path, folder, paths)
    causes = [attempt.cause for attempt in read_attempts(tmp_path)]
    assert causes == ["superseded", "done", "done"]
    pack_all(tmp_path, (tmp_path / "attempts").iterdir())
    assert [attempt.cause for attempt in read_attempts(tmp_path)] == causes


def test_a_damaged_archive_counts_as_not_there_and_is_told_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        folder, paths = records(tmp_path, number)
        pack_round(tmp_path, folder, paths)
    damage(folder / NAME)
    for _ in range(2):
        assert tasks_read(tmp_path) == [("step1-round000", task) for task in range(3)]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"codeio: {folder / NAME} is damaged (")
    assert packed_text(tmp_path, "attempts/step1-round001-task00000-start0.json") is None


def test_nothing_is_lost_to_a_damaged_archive(tmp_path: Path) -> None:
    folder, paths = records(tmp_path, 0)
    (folder / NAME).write_bytes(b"PK broken")
    pack_round(tmp_path, folder, paths)
    assert len(tasks_read(tmp_path)) == 3
    with pytest.raises(UserError, match=r"a packed\.zip in it is damaged"):
        pack_all(tmp_path, paths)
    assert len(tasks_read(tmp_path)) == 3 and (folder / NAME).exists()


def test_a_damaged_entry_costs_no_other_archive(tmp_path: Path) -> None:
    for number in range(2):
        folder, paths = records(tmp_path, number)
        pack_round(tmp_path, folder, paths)
    archive = tmp_path / "logs" / "step1-round000" / NAME
    with zipfile.ZipFile(archive) as whole:
        at = whole.getinfo(whole.namelist()[0]).header_offset + 100
    data = bytearray(archive.read_bytes())
    data[at : at + 20] = bytes(20)
    archive.write_bytes(data)
    assert {work for work, _ in tasks_read(tmp_path)} >= {"step1-round001"}
