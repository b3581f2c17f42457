"""The record of an attempt: there from the start, never behind on failures, and no larger for more shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeio_hpc.launch.attempts import (
    Failure,
    StageTotals,
    failures_by_shard,
    read_attempts,
    start_attempt,
    training_name,
)
from codeio_hpc.launch.packed import pack_all


def test_a_record_is_not_written_for_every_shard_and_has_the_totals_at_the_end(tmp_path: Path) -> None:
    attempt = start_attempt(tmp_path, "step0-round000", task=0, step=0)
    for shard in range(100):
        attempt.totals("sample").add(StageTotals(shards=1, seconds=shard, longest=shard, rows_in=2, counts={"odd": 1}))
        attempt.keep(tmp_path)
    [record] = read_attempts(tmp_path)
    assert (not record.stages or record.stages["sample"].shards < 100) and record.end is None
    attempt.finish(tmp_path, "done")
    [record] = read_attempts(tmp_path)
    totals = record.stages["sample"]
    assert (totals.shards, totals.rows_in, totals.longest, totals.counts) == (100, 200, 99, {"odd": 100})
    assert record.cause == "done" and record.end is not None


def test_a_failure_is_on_record_at_once(tmp_path: Path) -> None:
    attempt = start_attempt(tmp_path, "step1-round000", task=0, step=1)
    attempt.failures.append(Failure("sample", 7, "no"))
    attempt.keep(tmp_path)
    assert [failure.error for failure in failures_by_shard(tmp_path, ["step1-round000"])[1, 7]] == ["no"]
    assert not failures_by_shard(tmp_path, ["step1-round001"])
    attempt.damaged.append(Failure("pose", 8, "flipped"))
    attempt.keep(tmp_path)
    assert [record.damaged[0].shard for record in read_attempts(tmp_path)] == [8]


def test_an_attempt_sees_that_slurm_started_its_task_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = start_attempt(tmp_path, "step1-round000", task=3, step=1)
    assert not old.is_superseded(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")  # the first restart ended before it could write a record
    new = start_attempt(tmp_path, "step1-round000", task=3, step=1)
    other = start_attempt(tmp_path, "step1-round000", task=4, step=1)
    assert old.is_superseded(tmp_path) and not new.is_superseded(tmp_path) and not other.is_superseded(tmp_path)


def test_an_attempt_sees_that_its_round_is_over(tmp_path: Path) -> None:
    attempt = start_attempt(tmp_path, "step1-round000", task=3, step=1)
    pack_all(tmp_path, (tmp_path / "attempts").iterdir())
    assert attempt.is_superseded(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"\xc3(", b"{", b"[]", b'{"stages": []}', b'{"stages": {"x": 1}}'])
def test_a_record_that_is_none_is_passed_over(tmp_path: Path, content: bytes) -> None:
    start_attempt(tmp_path, "step1-round000", task=0, step=1)
    (tmp_path / "attempts" / "step1-round000-task00001-start0.json").write_bytes(content)
    assert [attempt.task for attempt in read_attempts(tmp_path)] == [0]
    pack_all(tmp_path, (tmp_path / "attempts").iterdir())
    assert [attempt.task for attempt in read_attempts(tmp_path)] == [0]


def test_starts_of_training_outside_slurm_are_counted_on_when_earlier_ones_are_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for number in range(3):
        assert training_name(tmp_path, "stage1") == f"stage1-here{number:03d}"
        start_attempt(tmp_path, training_name(tmp_path, "stage1"), task=0)
        if number == 1:
            pack_all(tmp_path, (tmp_path / "attempts").iterdir())
    assert training_name(tmp_path, "stage2") == "stage2-here000"
    assert len(list(read_attempts(tmp_path))) == 3
