"""The engine's account: no input row is lost, none is counted twice, and none appears from nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from codeio_hpc.launch.worker import AccountError, settle_account
from codeio_hpc.stages.base import Rejection

ROWS = [{"id": name, "language": "python"} for name in "abc"]


def out(parent: Any) -> dict[str, Any]:
    return {"parent": parent, "value": 1}


def settle(*results: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return settle_account("id", "parent", "sample", ROWS, results)


def test_output_and_rejections_that_add_up_pass() -> None:
    kept, rejected = settle(out("a"), out("a"), Rejection("b", "too_long", "9 > 8"), out("c"))
    assert [row["parent"] for row in kept] == ["a", "a", "c"]
    assert [(row["row_id"], row["reason"], row["stage"], row["language"]) for row in rejected] == [
        ("b", "too_long", "sample", "python")
    ]


def test_candidates_may_be_rejected_beside_their_parents_output() -> None:
    kept, rejected = settle(out("a"), Rejection("a1", "timeout", parent_id="a"), out(["b", "c"]))
    assert len(kept) == 2 and rejected[0]["parent_id"] == "a"


@pytest.mark.parametrize(
    "results",
    [
        [out("a"), out("b")],  # c is lost
        [out("a"), out("b"), out("c"), Rejection("c", "x")],  # c is both
        [out("a"), out("b"), Rejection("c", "x"), Rejection("c", "y")],  # twice
        [out("a"), out("b"), out("c"), out("z")],  # from nowhere
        [out("a"), out("b"), Rejection("c1", "x", parent_id="c")],  # only a candidate of c is rejected
        [out("a"), out("b"), out("c"), Rejection("q1", "x", parent_id="q")],
    ],
)
def test_anything_else_fails_the_shard(results: list[Any]) -> None:
    with pytest.raises(AccountError):
        settle(*results)


def test_two_input_rows_with_one_id_fail_the_shard() -> None:
    with pytest.raises(AccountError, match="same id"):
        settle_account("id", "parent", "sample", [ROWS[0], ROWS[0]], [out("a")])
