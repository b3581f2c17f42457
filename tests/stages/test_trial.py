"""Kinds of parameters that the file does not tell, or tells wrongly, are found by trying in the sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from codeio_hpc.config.run import RunConfig, Source, TransformSettings
from codeio_hpc.sandbox import Limits, Pool
from codeio_hpc.stages.base import Context
from codeio_hpc.stages.transform import Transform
from codeio_hpc.tables import Row
from tests.stages.drive import context_for, run_map
from tests.stages.test_transform import file_row


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(limits=Limits(cpu_seconds=1)) as running:
        yield running


def transform(content: str, pool: Pool, trials: int = 12) -> tuple[dict[str, Row], dict[str, tuple[str, str]], Context]:
    config = RunConfig(
        name="t", seed=3, sources=(Source(name="s", path="."),), transform=TransformSettings(trials=trials)
    )
    context = context_for(Transform(), config, lambda hash_seed: pool)
    kept, rejected = run_map(Transform(), [file_row(content)], context)
    reasons = {item.detail.partition(":")[0]: (item.reason, item.detail) for item in rejected if item.parent_id}
    return {row["name"]: row for row in kept}, reasons, context


def kinds_of(row: Row) -> dict[str, tuple[str, str]]:
    return {entry["name"]: (entry["type"], entry["origin"]) for entry in json.loads(row["parameters"])}


COMPLEMENT = (
    "def complement(sequence):\n    pairs = {'A': 'T', 'T': 'A', 'C': 'G', 'G': 'C'}\n"
    "    return ''.join(pairs.get(base, base) for base in sequence)\n"
)


def test_a_wrong_guess_is_replaced_by_a_kind_that_works(pool: Pool) -> None:
    told, _, _ = transform(COMPLEMENT, pool, trials=0)
    assert kinds_of(told["complement"])["sequence"][1] in ("usage", "name")
    found, _, context = transform(COMPLEMENT, pool)
    assert kinds_of(found["complement"])["sequence"] == ("str", "trial")
    assert context.counts["trials"] >= 2


def test_the_name_of_a_matrix_is_heard_first(pool: Pool) -> None:
    found, _, _ = transform("def transpose(matrix):\n    return list(map(list, zip(*matrix)))\n", pool)
    assert kinds_of(found["transpose"])["matrix"] == ("list of list of int", "trial")


def test_a_kind_that_nothing_tells_is_found(pool: Pool) -> None:
    code = "def opaque(thing):\n    return helper(thing)\n\n\ndef helper(what):\n    return what\n"
    _, reasons, _ = transform(code, pool, trials=0)
    assert reasons["opaque"][0] == "unknown_type"
    found, _, _ = transform(code, pool)
    assert kinds_of(found["opaque"])["thing"] == ("str", "trial")


def test_an_object_that_the_code_only_looks_at_is_no_text(pool: Pool) -> None:
    code = "def is_future(thing):\n    return bool(getattr(thing, '_future', None))\n"
    found, reasons, _ = transform(code, pool)
    assert not found and reasons["is_future"][0] == "unknown_type"


def test_what_the_file_says_is_never_tried(pool: Pool) -> None:
    code = "def third(n: int):\n    return n // 0\n"
    found, _, context = transform(code, pool)
    assert kinds_of(found["third"])["n"] == ("int", "hint") and not context.counts["trials"]


def test_where_no_kind_works_the_guess_stays_and_the_unknown_is_rejected(pool: Pool) -> None:
    code = "def guessed(n):\n    return (n + 1) // 0\n\n\ndef unknown(thing):\n    return [thing][1]\n"
    found, reasons, context = transform(code, pool)
    assert set(found) == {"guessed"} and kinds_of(found["guessed"])["n"][1] in ("usage", "name")
    assert reasons["unknown"][0] == "unknown_type" and "kinds were tried" in reasons["unknown"][1]
    assert context.counts["trials"] <= 24


def test_the_same_file_gives_the_same_functions(pool: Pool) -> None:
    assert transform(COMPLEMENT, pool)[0] == transform(COMPLEMENT, pool)[0]
