"""split: what is held out has no near-duplicate in training."""

from __future__ import annotations

from typing import Any

import pytest

from codeio_hpc.config.run import RunConfig, Source, SplitSettings
from codeio_hpc.stages.split import Split, normalised
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import FUNCTIONS
from tests.stages.drive import context_for, run_gather
from tests.stages.test_sample import function


def rows_of(codes: list[str]) -> list[Row]:
    return [
        {**function(code), "function_id": FUNCTIONS.row_id(str(place), code), "code": code}
        for place, code in enumerate(codes)
    ]


def split(codes: list[str], seed: int = 1, **settings: Any) -> list[str]:
    config = RunConfig(
        name="t", seed=seed, sources=(Source(name="s", path="."),), split=SplitSettings.model_validate(settings)
    )
    kept, rejected = run_gather(Split(), rows_of(codes), context_for(Split(), config))
    assert not rejected and [row["code"] for row in kept] == codes
    return [row["split"] for row in kept]


def body(number: int) -> str:
    steps = "".join(f"    total = total * {number + step} + value % {number * step + 3}\n" for step in range(12))
    return f"def main_solution(value):\n    total = {number}\n{steps}    return total\n"


def test_renamed_and_remarked_copies_fall_on_the_same_side() -> None:
    sides = set()
    for number in range(40):
        plain = f"def f(x):\n    return x + {number}\n\n\ndef main_solution(x):\n    return f(x)\n"
        text = f"    'Docs.'\n    return (value +\n        {number})  # remark"
        noisy = f"def other(value: int) -> int:\n{text}\ndef main_solution(value): return other(value)"
        assert normalised(plain) == normalised(noisy)
        found = split([plain, *(body(other) for other in range(40)), noisy], heldout_fraction=0.5, seed=number)
        assert found[0] == found[-1]
        sides.add(found[0])
    assert sides == {"train", "heldout"}


@pytest.mark.parametrize("near", [0.85, None])
def test_almost_equal_functions_fall_on_the_same_side_unless_only_equal_ones_count(near: float | None) -> None:
    codes = [body(100 * number) for number in range(60)]
    twins = [code.replace("    return total", "    return total + 1") for code in codes]
    found = split([*codes, *twins], heldout_fraction=0.4, near_duplicates=near)
    together = sum(one == other for one, other in zip(found[:60], found[60:], strict=True))
    assert together == 60 if near else together < 50
    assert 0.25 < found.count("heldout") / 120 < 0.55


def test_what_the_code_calls_and_uses_makes_a_difference() -> None:
    codes = [
        f"def f(x):\n    y = {body}\n    return y\n" for body in ("len(x)", "sum(x)", "x.a", "x.b", "max(x, key=x)")
    ]
    assert len(set(map(normalised, codes))) == len(codes)


def test_a_cluster_that_would_be_the_whole_benchmark_is_trained_on() -> None:
    same = [body(7)] * 30
    for seed in range(8):
        found = split([*same, *(body(100 * number) for number in range(30))], heldout_fraction=0.9, seed=seed)
        assert set(found[:30]) == {"train"} and "heldout" in found[30:]


def test_nothing_is_held_out_where_nothing_is_wanted() -> None:
    assert set(split([body(number) for number in range(9)], heldout_fraction=0)) == {"train"}
