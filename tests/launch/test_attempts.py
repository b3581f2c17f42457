"""The record of an attempt: there from the start, never behind on failures, and cheap however many shards there are."""

from __future__ import annotations

from pathlib import Path

from codeio_hpc.launch.attempts import Failure, ShardRecord, failures_by_shard, read_attempts, start_attempt


def test_a_record_is_not_written_for_every_shard(tmp_path: Path) -> None:
    attempt = start_attempt(tmp_path, step=0, task=0)
    for shard in range(100):
        attempt.shards.append(ShardRecord("sample", shard, 0.0, 0.0, 1, 1, 0))
        attempt.keep(tmp_path)
    [record] = read_attempts(tmp_path)
    assert len(record["shards"]) < 100 and record["end"] is None
    attempt.finish(tmp_path, "done")
    [record] = read_attempts(tmp_path)
    assert [shard["shard"] for shard in record["shards"]] == list(range(100)) and record["cause"] == "done"


def test_a_failure_is_on_record_at_once(tmp_path: Path) -> None:
    attempt = start_attempt(tmp_path, step=1, task=0)
    attempt.failures.append(Failure("sample", 7, "no"))
    attempt.keep(tmp_path)
    assert [failure["error"] for failure in failures_by_shard(tmp_path)[1, 7]] == ["no"]
    attempt.damaged.append(Failure("pose", 8, "flipped"))
    attempt.keep(tmp_path)
    assert [record["damaged"][0]["shard"] for record in read_attempts(tmp_path)] == [8]
