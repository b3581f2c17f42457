"""What makes a function's pairs poor teachers: outputs that need no reasoning, stand in the question, or are noise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from codeio_hpc.config.run import Flag
from codeio_hpc.sandbox.values import dump_json
from codeio_hpc.tables import Row

_NOISY_DIGITS = 9
"""A float with more significant digits is not worked out by reasoning: most of its digits come from rounding."""
_PLAIN = 3
"""Characters of an input or output below which its appearance in a text says nothing."""


def function_flags(pairs: Sequence[tuple[str, str]]) -> list[Flag]:
    """Flags of a function, from the (input, output) texts of its pairs.

    ``constant``: one output for all inputs. ``trivial``: the output is always one of the arguments as it is.
    ``float_noise``: at least half of the outputs hold a float of more than nine significant digits.
    """
    flags: list[Flag] = []
    outputs = [json.loads(output) for _, output in pairs]
    if len({output for _, output in pairs}) == 1:
        flags.append("constant")
    if all(_is_argument(json.loads(given), output) for (given, _), output in zip(pairs, outputs, strict=True)):
        flags.append("trivial")
    if 2 * sum(any(map(_is_noisy, _floats(output))) for output in outputs) >= len(outputs):
        flags.append("float_noise")
    return flags


def is_leaking(row: Row, given: str, output: str) -> bool:
    """Whether a reader of the question, the description or the code's remarks can read the pair's output off: the
    input's values and the output stand there within two lines, as in a worked example."""
    if len(output) < _PLAIN:
        return False
    shown = "\n".join([row["question"], row["io_description"], *_remarks(row["code"])])
    forms = _forms(json.loads(output))
    values = [_forms(value) for value in json.loads(given).values() if len(dump_json(value)) >= _PLAIN]
    if not values or not any(form in shown for form in forms):
        return False
    lines = shown.split("\n")
    windows = ("\n".join(lines[at : at + 2]) for at in range(len(lines)))
    return any(
        any(form in window for form in forms) and all(any(form in window for form in value) for value in values)
        for window in windows
    )


def _is_argument(given: dict[str, Any], output: Any) -> bool:
    return any(type(value) is type(output) and value == output for value in given.values())


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _floats(part)


def _is_noisy(value: float) -> bool:
    digits = repr(value).partition("e")[0].replace(".", "").lstrip("-0").rstrip("0")
    return len(digits) > _NOISY_DIGITS


def _forms(value: Any) -> set[str]:
    """How a value is written in texts."""
    bare = {value} if isinstance(value, str) and len(value) >= _PLAIN else set()
    return {dump_json(value), json.dumps(value, ensure_ascii=False), repr(value)} | bare


def _remarks(code: str) -> list[str]:
    """Comments and triple-quoted texts."""
    return re.findall(r'#.*|"""(?:.|\n)*?"""|\'\'\'(?:.|\n)*?\'\'\'', code)
