"""What counts as the right output."""

from __future__ import annotations

import time

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox import TOKENS, Comparator

WRONG_IN_OTHER_JUDGES = [
    ("1\n0", "0\n1\n1\n0", False),  # sets of lines
    ("12", "1\n2", False),  # white space taken out
    ("7", "7 7 7", False),  # sets of tokens
    ("5 6", "6\n5", False),
    ("0.3000000001", "0.3", True),
    ("0.333333333333", "0.3333333333", True),
    ("1000000000000000000", "1000000000000000001", False),  # the same as floats
    ("1e18", "1000000000000000000", False),
    ("100001", "100000", False),  # within 1e-5
    ("1\n2\n", "1\n2\n3\n", False),  # the beginning of the answer
    ("1 2 \n3 4", "1 2\n3 4", True),
]


@pytest.mark.parametrize(("printed", "expected", "right"), WRONG_IN_OTHER_JUDGES)
def test_what_public_judges_get_wrong(printed: str, expected: str, right: bool) -> None:
    assert TOKENS.equal(printed.encode(), expected.encode()) is right


@pytest.mark.parametrize(
    ("printed", "expected", "right"),
    [
        ("yes", "YES", False),
        ("", "", True),
        ("\n\n", "", True),
        ("", "0", False),
        ("1.0", "1", False),  # an integer is expected
        ("1", "1.0", True),
        ("0010", "10", False),  # leading zeros may matter
        ("1e-7", "0.0", True),
        ("2e-6", "0.0", False),
        ("1000000.5", "1000000.0", True),  # relative
        ("1000002.0", "1000000.0", False),
        ("nan", "1.0", False),
        ("inf", "1.0", False),
        ("nan", "nan", True),  # the same text
        ("1_0.0", "10.0", False),
        ("0x10", "16.0", False),
        ("1e400", "1.0", False),
        ("1e400", "9" * 400 + ".5", False),
        ("-0.0", "0.0", True),
        ("+1.5", "1.5", True),
        (".5", "0.5", True),
        ("5e-1", "0.5", True),
        ("\u0661.0", "1.0", False),  # a digit of another script
        ("1\x0b2", "1 2", True),
        ("1\u00a02", "1 2", False),  # a no-break space is not white space
        ("9" * 100_000, "9" * 99_999 + "8", False),
        ("9" * 100_000 + ".5", "9" * 100_000 + ".5", True),
    ],
)
def test_tokens(printed: str, expected: str, right: bool) -> None:
    assert TOKENS.equal(printed.encode(), expected.encode()) is right


@pytest.mark.parametrize(
    ("settings", "printed", "expected", "right"),
    [
        ({"ignore_case": True}, "Yes", "YES", True),
        ({"any_order": True}, "1 2\n3 4", "3 4\n1 2", True),
        ({"any_order": True}, "2 1\n3 4", "3 4\n1 2", False),
        ({"any_order": True}, "7", "7\n7\n7", False),
        ({"any_order": True}, "0.3000000001 a\n0.1 b", "0.1 b\n0.3 a", True),
        ({"any_order": True}, "0.2 a\n0.1 b", "0.1 b\n0.3 a", False),
        ({"any_order": True}, "0.3000000001 1\n0.3 2", "0.3 1\n0.3000000001 2", True),
        ({"any_order": True}, "1\n2\n", "1\n\n2\n2\n", False),
        ({"tolerance": 0.0}, "0.3000000001", "0.3", False),
        ({"tolerance": 0.01}, "0.309", "0.3", True),
        ({"rule": "lines"}, "a  b", "a b", False),
        ({"rule": "lines"}, "a b  \r\n\n\n", "a b", True),
        ({"rule": "lines"}, " a", "a", False),
        ({"rule": "lines"}, "0.3000000001", "0.3", False),
        ({"rule": "lines", "any_order": True}, "b\na", "a\nb", True),
    ],
)
def test_rules_that_are_asked_for(settings: dict, printed: str, expected: str, right: bool) -> None:
    assert Comparator(**settings).equal(printed.encode(), expected.encode()) is right


@pytest.mark.parametrize("printed", [b"1" * 5_000_000 + b"x", b"1 " * 5_000_000, b"1." * 2_000_000, b"\n" * 5_000_000])
@pytest.mark.parametrize("any_order", [False, True])
def test_hostile_output_costs_no_more_than_reading_it(printed: bytes, any_order: bool) -> None:
    started = time.process_time()
    assert not Comparator(any_order=any_order).equal(printed, b"1.0 2.0")
    assert time.process_time() - started < 5


def test_bytes_that_are_no_text_are_compared_too() -> None:
    assert TOKENS.equal(b"\xff\x00 1", b"\xff\x00\n1") and not TOKENS.equal(b"\xff", b"\xfe")


def test_the_id_tells_every_setting() -> None:
    assert TOKENS.id == "tokens/1"
    assert Comparator("lines", any_order=True).id == "lines/1+any_order"
    assert Comparator(tolerance=1e-9, ignore_case=True).id == "tokens/1+tolerance=1e-09+ignore_case"


@pytest.mark.parametrize("settings", [{"rule": "token"}, {"tolerance": -1.0}, {"tolerance": float("nan")}])
def test_settings_that_mean_nothing_are_refused(settings: dict) -> None:
    with pytest.raises(UserError):
        Comparator(**settings)
