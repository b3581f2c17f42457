"""JSON values: strict reading of what a jail sends, and comparison by type.

Nothing here trusts its input: it is written by code nobody has read.
"""

from __future__ import annotations

import gc
import json
import math
from dataclasses import dataclass
from typing import TypeAlias

from codeio_hpc.sandbox.policy import MAX_DEPTH

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"


MAX_PARTS = 1_000_000
"""Values and containers in one text, at most about: a few bytes of text become a hundred of memory."""
_FEW_BYTES = 2**16


class NotJsonError(ValueError):
    """The text is not the strict JSON that the sandbox accepts; says what is wrong with it."""


def parse_json(text: bytes | str, max_bytes: int, max_depth: int = MAX_DEPTH, non_finite: bool = False) -> JsonValue:
    """Read one JSON document.

    Refused, beyond what is not JSON: more than ``max_bytes`` of UTF-8, more than ``MAX_PARTS`` parts, deeper than
    ``max_depth``, a key twice in one object, NaN and infinities (unless ``non_finite``; as ``1e999`` never), lone
    surrogates, integers of more digits than Python converts.

    Raises:
        NotJsonError: always this, whatever is wrong.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > max_bytes:
        raise NotJsonError(f"{len(data)} bytes, more than {max_bytes}")
    if len(data) > _FEW_BYTES and sum(map(data.count, b",[{")) > MAX_PARTS:
        raise NotJsonError(f"more than {MAX_PARTS:,} parts")
    collects = gc.isenabled()
    gc.disable()  # nothing here makes cycles, and looking for them costs more than the parsing
    try:
        value: JsonValue = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=float if non_finite else _constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise NotJsonError(f"nested deeper than {max_depth}") from None
    except NotJsonError:
        raise
    except ValueError as error:  # not JSON, not UTF-8, or an integer too long to convert
        raise NotJsonError(str(error)) from None
    finally:
        if collects:
            gc.enable()
    check_json(value, max_depth, non_finite)
    return value


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise NotJsonError("a key appears twice in one object")
    return result


def _constant(name: str) -> JsonValue:
    raise NotJsonError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotJsonError(f"{text[:40]} is out of range")
    return value


def check_json(value: JsonValue, max_depth: int = MAX_DEPTH, non_finite: bool = False) -> None:
    """Check depth, types and strings of a value.

    Raises:
        NotJsonError: not JSON's own types, too deep, a number that is not finite, or a lone surrogate.
    """
    stack: list[tuple[object, int]] = [(value, 1)]
    while stack:
        one, depth = stack.pop()
        kind = type(one)
        if kind is str:
            _check_text(one)  # type: ignore[arg-type]
        elif kind is list or kind is dict:
            if depth > max_depth:
                raise NotJsonError(f"nested deeper than {max_depth}")
            if kind is dict:
                for key in one:  # type: ignore[attr-defined]
                    if type(key) is not str:
                        raise NotJsonError(f"a key of type {type(key).__name__}")
                    _check_text(key)
                stack.extend((item, depth + 1) for item in one.values())  # type: ignore[attr-defined]
            else:
                stack.extend((item, depth + 1) for item in one)  # type: ignore[attr-defined]
        elif kind is float:
            if not non_finite and not math.isfinite(one):  # type: ignore[arg-type]
                raise NotJsonError(f"{one} is not JSON")
        elif one is not None and kind is not int and kind is not bool:
            raise NotJsonError(f"a value of type {kind.__name__}")


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise NotJsonError("a lone surrogate in a string") from None


def dump_json(value: JsonValue, non_finite: bool = False) -> str:
    """The value as compact JSON text, keys in their own order."""
    return json.dumps(value, allow_nan=non_finite, ensure_ascii=False, separators=(",", ":"))


def canonical(value: JsonValue, non_finite: bool = False) -> str:
    """The same text for the same value, whatever the order of keys. Keeps 1, 1.0 and true apart."""
    return json.dumps(value, allow_nan=non_finite, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far apart two floats may be and still count as equal.

    They are equal within ``relative`` of the larger one, or within ``absolute``. ``mixed`` also lets an int equal a
    float; ``same_integer_part`` additionally wants the integer parts equal. An infinity equals itself only; NaN equals
    NaN only with ``nan_equal``.
    """

    relative: float = 1e-6
    absolute: float = 1e-9
    mixed: bool = False
    same_integer_part: bool = False
    nan_equal: bool = False

    def close(self, one: float, other: float) -> bool:
        """Whether the two numbers are equal under this rule."""
        if one == other:
            return True
        if not (math.isfinite(one) and math.isfinite(other)):
            return self.nan_equal and math.isnan(one) and math.isnan(other)
        if self.same_integer_part and int(one) != int(other):
            return False
        return math.isclose(one, other, rel_tol=self.relative, abs_tol=self.absolute)


DEFAULT = Tolerance()
EXACT = Tolerance(relative=0.0, absolute=0.0)
PAPER = Tolerance(relative=1e-3, absolute=0.0, mixed=True, same_integer_part=True)
"""CodeI/O's public checker (``is_close``): within 0.1 % and the same integer part, ints and floats mixed."""

TOLERANCES: dict[str, Tolerance] = {"default": DEFAULT, "exact": EXACT, "paper": PAPER}


def equal(one: JsonValue, other: JsonValue, tolerance: Tolerance = DEFAULT) -> bool:
    """Whether two JSON values are equal, type by type.

    True, 1 and 1.0 are three different values; integers compare exactly; floats by ``tolerance``; the order of keys
    does not matter, the order of lists does.
    """
    stack: list[tuple[JsonValue, JsonValue]] = [(one, other)]
    while stack:
        left, right = stack.pop()
        if type(left) is not type(right):
            if not (tolerance.mixed and _close_mixed(left, right, tolerance)):
                return False
        elif isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                return False
            stack.extend((item, right[key]) for key, item in left.items())
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            stack.extend(zip(left, right, strict=True))
        elif isinstance(left, float) and isinstance(right, float):
            if not tolerance.close(left, right):
                return False
        elif left != right:
            return False
    return True


def _close_mixed(left: JsonValue, right: JsonValue, tolerance: Tolerance) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        return False
    try:
        return tolerance.close(float(left), float(right))
    except OverflowError:  # an integer beyond the range of floats
        return False
