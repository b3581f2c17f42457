"""What the text of code says about how it is to be run."""

from __future__ import annotations

import pytest

from codeio_hpc.sandbox import check_seeds
from codeio_hpc.sandbox.policy import kind_of

MANY, ONE = (1, 2, 3), (1,)


@pytest.mark.parametrize(
    ("code", "seeds"),
    [
        ("def f(xs): return list(set(xs))", MANY),
        ("def f(xs): return [x for x in {1, 2, xs}]", MANY),
        ("def f(xs): return list({x for x in xs})", MANY),
        ("def f(a, b): return list(a.keys() & b)", MANY),
        ("def f(a): return a.union([1])", MANY),
        ("def f(x): return hash(x)", MANY),
        ("from random import choice\ndef f(xs): return choice(xs)", MANY),
        ("import random as r\ndef f(xs): return r.shuffle(xs)", MANY),
        ("def f(:", MANY),
        ("def f(x): return {'a': x, 'b': [x]}", ONE),
        ('def f(x):\n    """A set of {things}, at random."""\n    return f"{x} {x}"', ONE),
        ("def f(a, b): return a - b", ONE),
    ],
)
def test_what_may_change_with_the_hash_seed_is_run_under_more_of_them(code: str, seeds: tuple[int, ...]) -> None:
    assert check_seeds(code) == seeds


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import re, collections.abc", "plain"),
        ("def f():\n    from numpy.linalg import norm", "scientific"),
        ("x = 'import numpy'", "plain"),
        ("import (", "plain"),
        ("import os; import numpy", "scientific"),
        ("from os import path; import numpy", "scientific"),
        ("from os import path\\\n, sep; import numpy", "scientific"),
        ("from os import path\rimport numpy", "scientific"),
        ("import os, numpy", "scientific"),
        ("import os\\\n, numpy", "scientific"),
        *[
            (f"{code} import numpy", "scientific")
            for code in (
                "if 1:",
                "if 1: pass\nelse:",
                "for x in y:",
                "try: pass\nfinally: pass\nwhile 1:",
                "try: pass\nexcept A:",
                "try: pass\nexcept* A:",
                "try: pass\nexcept A: pass\nelse:",
                "try: pass\nfinally:",
                "with a:",
                "class A:",
                "async def f():",
                "match a:\n  case 1:",
            )
        ],
        ("from \\\n numpy import ma", "scientific"),
        ("import \uff4eumpy", "scientific"),
        ('"""\nimport numpy\n"""', "plain"),
        ("from . import numpy", "plain"),
        ("import os.path as path  # no numpy\nfrom re import (\n    sub,\n)", "plain"),
    ],
)
def test_code_that_imports_more_than_the_standard_library_gets_the_scientific_jail(code: str, kind: str) -> None:
    assert kind_of(code) == kind
