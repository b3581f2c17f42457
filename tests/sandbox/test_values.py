"""Strict JSON and comparison by type."""

from __future__ import annotations

import math

import pytest

from codeio_hpc.sandbox import DEFAULT, EXACT, PAPER, NotJsonError, canonical, equal, parse_json
from codeio_hpc.sandbox.values import Tolerance


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}', "NaN", "[Infinity]", "-Infinity", "1e999", '"\\ud800"', "[" * 70 + "]" * 70, "{}{}", "", "nul",
        "[" * 100_000, "1" * 5000, b"\xff", '{"a":1} x', "'a'", '{"\\udc00":1}',
    ],
)  # fmt: skip
def test_what_is_not_strict_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(NotJsonError):
        parse_json(text, 10**6)


def test_size_is_checked_before_anything_is_read() -> None:
    with pytest.raises(NotJsonError, match="more than 10"):
        parse_json('"' + "x" * 20 + '"', 10)


def test_json_is_read() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, true, "\\u00e9"]}', 1000) == {"a": [1, 2.5, None, True, "é"]}
    value = parse_json("[NaN, Infinity]", 1000, non_finite=True)
    assert isinstance(value, list) and math.isnan(value[0]) and value[1] == math.inf


@pytest.mark.parametrize(("one", "other"), [(True, 1), (1, 1.0), (0, False), (None, 0), ("1", 1), ([], {}), (1, "1")])
def test_values_of_different_types_differ(one: object, other: object) -> None:
    assert not equal(one, other)
    assert not equal([one], [other])
    assert not equal({"a": one}, {"a": other})
    assert canonical(one) != canonical(other)


def test_floats_are_equal_within_the_tolerance() -> None:
    assert equal(0.1 + 0.2, 0.3) and equal(1e12, 1e12 + 1.0) and equal(0.0, 1e-10)
    assert not equal(1.0, 1.00001) and not equal(0.0, 1e-8)
    assert not equal(0.1 + 0.2, 0.3, EXACT) and equal(0.5, 0.5, EXACT)
    assert not equal(10**20, 10**20 + 1)


def test_the_papers_rule_mixes_numbers_but_not_truth_values() -> None:
    assert equal(100.01, 100.02, PAPER) and not equal(100.01, 100.02, DEFAULT)
    assert equal(2, 2.0, PAPER) and not equal(1.9999, 2.0, PAPER) and not equal(True, 1, PAPER)
    assert not equal(10**400, 1.0, PAPER)


def test_nan_equals_nan_only_by_option() -> None:
    nan = float("nan")
    assert not equal(nan, nan) and equal(nan, nan, Tolerance(nan_equal=True))
    assert equal(math.inf, math.inf) and not equal(math.inf, -math.inf) and not equal(math.inf, 1e308, PAPER)


def test_structure_counts_and_the_order_of_keys_does_not() -> None:
    assert equal({"a": 1, "b": [1, {"c": None}]}, {"b": [1, {"c": None}], "a": 1})
    assert not equal([1, 2], [2, 1]) and not equal([1], [1, 1]) and not equal({"a": 1}, {"a": 1, "b": 1})
