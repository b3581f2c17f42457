"""transform: what is lifted, what is refused and why, and that the result is self-contained and always the same."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config.run import RunConfig, Source, TransformSettings
from codeio_hpc.stages.base import Rejection
from codeio_hpc.stages.collect import Collect, list_sources
from codeio_hpc.stages.static.infer import by_name
from codeio_hpc.stages.static.patterns import matches_of
from codeio_hpc.stages.static.tags import tags_of
from codeio_hpc.stages.transform import Transform
from codeio_hpc.tables import Row
from tests.stages.drive import context_for, run_gather, run_map

CONFIG = RunConfig(name="test", seed=3, sources=(Source(name="here", path="."),), transform=TransformSettings(trials=0))


def file_row(content: str, name: str = "file.py") -> Row:
    identity = "f" + hashlib.sha256(content.encode()).hexdigest()[:20]
    return {
        "file_id": identity,
        "source_id": f"src{name}",
        "language": "python",
        "source": "here",
        "path": name,
        "licence": "MIT",
        "form": "file",
        "content": content,
    }


def transform(content: str, config: RunConfig = CONFIG) -> tuple[dict[str, Row], dict[str, str]]:
    """Functions by name; reasons of the dropped candidates by name ('' for the file itself)."""
    stage = Transform()
    kept, rejected = run_map(stage, [file_row(content)], context_for(stage, config))
    reasons = {item.detail.partition(":")[0] if item.parent_id else "": item.reason for item in rejected}
    return {row["name"]: row for row in kept}, reasons


def only(content: str) -> Row:
    functions, reasons = transform(content)
    assert len(functions) == 1, reasons
    return next(iter(functions.values()))


def load(source: str, name: str) -> Any:
    namespace: dict[str, Any] = {"__name__": "lifted"}
    exec(compile(source, "lifted", "exec"), namespace)  # our own test code, lifted
    return namespace[name]


def inputs_of(row: Row, count: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    random.seed(seed)
    generate = load(row["generator"], "input_generator")
    return [json.loads(json.dumps(generate(), allow_nan=False)) for _ in range(count)]


def test_a_function_comes_with_its_imports_constants_and_helpers_in_order() -> None:
    row = transform(
        "import re\nimport os\nfrom math import gcd as greatest\n\nUNUSED = open\nLIMIT = 3\nTABLE = {'a': LIMIT}\n\n\n"
        "def main(word):\n    '''Look the word up.'''\n    # a remark\n"
        "    return helper(word) + TABLE.get(word, 0)\n\n\n"
        "def helper(word):\n    return greatest(len(re.findall('a', word)), LIMIT)\n"
    )[0]["main"]
    assert row["code"] == (
        "from math import gcd as greatest\nimport re\n\n\nLIMIT = 3\n\n\nTABLE = {'a': LIMIT}\n\n\n"
        "def main(word):\n    # a remark\n    return helper(word) + TABLE.get(word, 0)\n\n\n"
        "def helper(word):\n    return greatest(len(re.findall('a', word)), LIMIT)\n\n\n"
        "def main_solution(word):\n    return main(word)\n"
    )
    assert load(row["code"], "main_solution")("a") == 4


IMPURE = {
    "random": "import random\ndef f(n):\n    return n + random.randint(0, n)\n",
    "aliased random": "from random import choice as pick\ndef f(words):\n    return pick(words)\n",
    "numpy's random": "import numpy as np\ndef f(n):\n    return list(np.random.rand(n))\n",
    "local import": "def f(n):\n    import random\n    return random.random() * n\n",
    "clock": "import time\ndef f(n):\n    return time.time() + n\n",
    "now": "import datetime\ndef f(n):\n    return datetime.datetime.now().year + n\n",
    "network": "import socket\ndef f(name):\n    return socket.gethostbyname(name)\n",
    "files": "def f(path):\n    return open(path).read()\n",
    "processes": "import subprocess\ndef f(name):\n    return subprocess.run(name)\n",
    "environment": "import os\ndef f(name):\n    return os.environ[name]\n",
    "eval": "def f(text):\n    return eval(text)\n",
    "print": "def f(text):\n    print(text)\n    return text\n",
    "hidden in a helper": "import random\ndef g(n):\n    return random.random()\ndef f(n):\n    return g(n) * n\n",
    "hidden in a default": "import time\ndef f(n, start=time.time()):\n    return n - start\n",
    "hidden in a constant": "import os\nHOME = os.environ['HOME']\ndef f(text):\n    return HOME + text\n",
    "hidden in a decorator": "import atexit\n@atexit.register\ndef f(n):\n    return n + 1\n",
    "global": "n = 0\ndef f(k):\n    global n\n    n += k\n    return n\n",
    "global set": "n = 0\ndef f(k):\n    global n\n    n = k\n    return n\n",
    "module state": "SEEN = []\ndef f(n):\n    SEEN.append(n)\n    return len(SEEN) + n\n",
    "module table": "CACHE = {}\ndef f(n):\n    CACHE[n] = n * 2\n    return CACHE[n]\n",
    "identity": "def f(text):\n    return id(text) + len(text)\n",
    "async": "async def f(n):\n    return n + 1\n",
}


@pytest.mark.parametrize("what", IMPURE)
def test_impure_code_is_refused_wherever_it_hides(what: str) -> None:
    functions, reasons = transform(IMPURE[what])
    assert functions.keys() <= {"g"} and "f" not in functions
    assert reasons["f"].startswith(("impure:", "module_state", "async", "unsupported_import"))


def test_a_word_in_a_text_or_a_local_name_is_no_ban() -> None:
    functions, _ = transform(
        "import random\n\ndef f(text):\n    return text + 'import random; eval(open)'\n\n"
        "def g(time, n):\n    random = [n]\n    return random[0] + len(time.split())\n"
    )
    assert functions.keys() == {"f", "g"}


REFUSED = {
    "def f(x, y):\n    return x.frobnicate(y)\n": "unknown_type",
    "def f(thing):\n    return thing\n": "unknown_type",
    "def f(handler, n):\n    return handler(n)\n": "callable_parameter",
    "def f():\n    return 3\n": "no_parameters",
    "def f(n):\n    n += 1\n": "no_result",
    "def f(n):\n    return lambda: n + 1\n": "returns_function",
    "from .other import helper\ndef f(n):\n    return helper(n + 1)\n": "unsupported_import",
    "import torch\ndef f(n):\n    return torch.ones(n + 1)\n": "unsupported_import",
    "def f(n):\n    return nowhere(n + 1)\n": "unknown_name",
    "try:\n    K = 1\nexcept E:\n    K = 2\ndef f(n):\n    return n + K\n": "module_state",
    "def f(n):\n    return n + 1 + " + " + ".join(["n"] * 900) + "\n": "too_long",
}


@pytest.mark.parametrize("content", REFUSED)
def test_each_refusal_has_its_reason(content: str) -> None:
    functions, reasons = transform(content)
    assert not functions
    assert reasons == {"f": REFUSED[content], "": "no_function"}


def test_methods_are_counted_and_static_methods_lifted() -> None:
    functions, reasons = transform(
        "class Box:\n    def size(self):\n        return 1\n\n"
        "    @staticmethod\n    def twice(n: int) -> int:\n        return 2 * n\n"
    )
    assert list(functions) == ["Box.twice"]
    assert reasons == {"Box.size": "method"}
    assert functions["Box.twice"]["code"].startswith("def twice(n: int) -> int:\n    return 2 * n\n")


@pytest.mark.parametrize("content", ["", "x = 1\n", "# only remarks\n", "return 3\n", "def f(:\n"])
def test_a_file_without_a_function_is_rejected_itself(content: str) -> None:
    functions, reasons = transform(content)
    assert not functions
    assert reasons[""] in ("no_function", "not_parseable")


TYPES = {
    "def f(s):\n    return s.split(',')[0].strip()\n": ("str", "usage"),
    "def f(s):\n    if s.startswith('#'):\n        return s[1:]\n    return s\n": ("str", "usage"),
    "def f(v):\n    total = 0\n    for x in v:\n        total += x * 2\n    return total\n": ("list of int", "usage"),
    "def f(v):\n    return ', '.join(v)\n": ("list of str", "usage"),
    "def f(v):\n    return [len(w.upper()) for w in v]\n": ("list of str", "usage"),
    "def f(v):\n    return v % 7 + v // 2\n": ("int", "usage"),
    "def f(v):\n    return [k.upper() for k, n in v.items() if n > 2]\n": ("dict of str to int", "usage"),
    "def g(q):\n    return q.lower()\ndef f(v):\n    return g(v)\n": ("str", "usage"),
    "def f(v: float) -> float:\n    return v\n": ("float", "hint"),
    "from typing import Optional\ndef f(v: Optional[int] = None):\n    return v or 1\n": ("int or None", "hint"),
    "from typing import Literal\ndef f(v: Literal['a', 'b']):\n    return v + v\n": ("str", "hint"),
    "def f(v: 'dict[str, list[int]]'):\n    return v\n": ("dict of str to list of int", "hint"),
    "def f(v=True):\n    return 1 if v else 2\n": ("bool", "default"),
    "def f(v):\n    '''\n    >>> f([1.5])\n    '''\n    return v[0]\n": ("list of float", "doctest"),
    "def f(v):\n    return v\nassert f('x') == 'x'\n": ("str", "call"),
    "def f(width):\n    return [width]\n": ("int", "name"),
    "def f(*v):\n    return sum(x + 1 for x in v)\n": ("list of int", "usage"),
    "def f(v):\n    return [a + 1 for a, b in v if b.strip()]\n": ("list of list of 2: int, str", "usage"),
}


@pytest.mark.parametrize("content", TYPES)
def test_argument_types_are_found_and_say_where_from(content: str) -> None:
    row = transform(content)[0]["f"]
    parameters = json.loads(row["parameters"])
    assert (parameters[-1]["type"], parameters[-1]["origin"]) == TYPES[content]
    solve = load(row["code"], "main_solution")
    for given in inputs_of(row):
        json.dumps(solve(**given))


def test_tuples_sets_bytes_and_iterators_are_converted_at_the_entry_point() -> None:
    functions, _ = transform(
        "def point(p: tuple[int, int]):\n    return isinstance(p, tuple)\n\n"
        "def unique(items: set[int]):\n    return items | {1}\n\n"
        "def raw(data: bytes) -> bytes:\n    return data + b'!'\n\n"
        "def each(items: list[int]):\n    for item in items:\n        yield item + 1\n"
    )
    call = {name: load(row["code"], "main_solution") for name, row in functions.items()}
    assert call["point"]([1, 2]) is True
    assert call["unique"]([3, 2, 3]) == [1, 2, 3]
    assert call["raw"]("é") == "Ã©!"
    assert call["each"]([1, 2]) == [2, 3]


def test_generators_vary_and_know_the_examples_and_words_of_the_file() -> None:
    row = only(
        "def shorten(text, width=20):\n"
        "    '''Return the text cut to some width, ended by an ellipsis.\n\n"
        "    >>> shorten('hello brave world', width=9)\n    'hello...'\n    '''\n"
        "    return text if len(text) <= width else text[: width - 3].rstrip('~') + '...'\n"
    )
    given = inputs_of(row, 200)
    assert len({json.dumps(item) for item in given}) > 80
    assert {"text": "hello brave world", "width": 9} in given
    assert any("ellipsis" in item["text"] for item in given)
    assert any("~" in item["text"] for item in given)
    assert any(item["width"] == 20 for item in given)
    assert given == inputs_of(row, 200)


def test_generators_use_nothing_but_random() -> None:
    row = only(
        "import re\n\ndef f(word, path, text):\n    return re.sub('[0-9]+', word, path.strip()) + text.upper()\n"
    )
    tree = ast.parse(row["generator"])
    assert [node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)] == ["random"]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert inputs_of(row, 5)[0].keys() == {"word", "path", "text"}


QUESTIONS = {
    "def f(s: str, n: int):\n    '''Return the n-th letter of ``s``.'''\n    return s[n]\n": "What is the n-th letter",
    "def is_even(n: int) -> bool:\n    '''Check whether n is even.'''\n    return n % 2 == 0\n": (
        "Consider this statement: n is even. Which is right for these values, true or false?"
    ),
    "def f(s: str):\n    '''Count the vowels of a text.'''\n    return len(s)\n": "this: count the vowels of a text.",
    "def double_it(n: int):\n    return n * 2\n": "The task is called “double it”. What result does it give",
    "# Drop every second letter.\ndef f(s: str):\n    return s[::2]\n": "The task is this: drop every second letter.",
    "def f(s: str):\n    '''f(s) -> str\n\n    Swap the halves of a word.'''\n    return s\n": "swap the halves",
}


@pytest.mark.parametrize("content", QUESTIONS)
def test_questions_are_plain_sentences_that_name_the_inputs(content: str) -> None:
    row = only(content)
    assert QUESTIONS[content] in row["question"]
    for parameter in json.loads(row["parameters"]):
        assert f"`{parameter['name']}`" in row["question"]
        assert f"  `{parameter['name']}` ({parameter['type']}): " in row["io_description"]
    assert row["question"].endswith("?")


def test_descriptions_use_what_the_docstring_says_of_a_parameter() -> None:
    row = only("def f(s: str):\n    '''Cut.\n\n    :param s: the line to be cut.\n    '''\n    return s[1:]\n")
    assert row["io_description"] == (
        "Input:\n  `s` (str): the line to be cut.\nOutput:\n  `return` (str): a text, the result."
    )


TAGGED = {
    "def main_solution(n):\n    return n - 1\n": ["arithmetic"],
    "def main_solution(s):\n    return s.upper()\n": ["strings"],
    "def main_solution(xs):\n    for x in xs:\n        if x > 2:\n            return x\n    return 0\n": [
        "search",
        "iteration",
    ],
    "def f(n):\n    return 1 if n < 2 else n * f(n - 1)\ndef main_solution(n):\n    return f(n)\n": [
        "decomposition",
        "recursion",
        "arithmetic",
    ],
    "def f(n):\n    return n\ndef main_solution(n):\n    return f(n)\n": [],
    "def g(n):\n    return n\ndef f(n):\n    return g(n)\ndef main_solution(n):\n    return f(n)\n": ["decomposition"],
    "def main_solution(a, b):\n    if a:\n        return b\n    return 'x' if b else [y for y in a]\n": [
        "decisions",
        "iteration",
    ],
}


@pytest.mark.parametrize("code", TAGGED)
def test_tags_say_what_the_code_does(code: str) -> None:
    assert tags_of(code, "main_solution") == TAGGED[code]


def test_functions_with_more_parameters_than_wanted_are_rejected() -> None:
    config = CONFIG.model_copy(update={"transform": TransformSettings(max_parameters=1, trials=0)})
    functions, reasons = transform(
        "def one(n: int):\n    return n\ndef two(n: int, m: int):\n    return n + m\n", config
    )
    assert list(functions) == ["one"]
    assert reasons == {"two": "too_many_parameters"}


def test_too_many_functions_of_one_file_are_cut_off_with_a_reason() -> None:
    config = CONFIG.model_copy(update={"transform": TransformSettings(max_functions_per_file=2)})
    content = "".join(f"def f{number}(n: int):\n    return n + {number}\n" for number in range(4))
    functions, reasons = transform(content, config)
    assert list(functions) == ["f0", "f1"]
    assert reasons == {"f2": "over_limit", "f3": "over_limit"}


def test_regular_expressions_give_texts_that_they_match() -> None:
    assert matches_of(r"\d{4}-(?:0[1-9]|1[0-2])", 0, 4)
    assert matches_of("(unclosed", 0, 4) == []
    assert matches_of(r"(a+)+\1{3}[^\W\d]?", 0, 3) == matches_of(r"(a+)+\1{3}[^\W\d]?", 0, 3)


def test_names_suggest_types() -> None:
    assert [by_name(name).name for name in ("file_name", "count", "is_open", "values", "zzz")] == [
        "str", "int", "bool", "list", "any",
    ]  # fmt: skip


PROGRAM = """
import hashlib, sys
from tests.stages.test_transform import standard_library_bytes
print(standard_library_bytes())
"""


MANY_IMPORTS = (
    "import re, math, json, string, bisect\nfrom itertools import chain, repeat\nA, B, C = 1, 2, 3\n\n"
    "def f(text):\n    json.loads(text)\n"
    "    return [math.pi, re.sub('a', string.digits, text), bisect.bisect([A, B], C), list(chain(repeat(text, 2)))]\n"
)


def standard_library_bytes() -> str:
    """A digest of everything that collect and transform make of some files of the standard library, without trials."""
    sources = (Source(name="stdlib", stdlib=True, include=("[d-t]*.py",), max_files=40),)
    config = RunConfig(name="test", sources=sources, transform=TransformSettings(trials=0))
    files, _ = run_gather(Collect(), list(list_sources(config)), context_for(Collect(), config))
    stage = Transform()
    made = list(stage.run([file_row(MANY_IMPORTS), *files], context_for(stage, config)))
    assert sum(not isinstance(item, Rejection) for item in made) > 20
    return hashlib.sha256(repr(made).encode()).hexdigest()


def test_the_result_is_the_same_under_every_hash_seed() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(?:x*y*)*z", r"((a{1,99}){1,99})b", "a?" * 200])
def test_regular_expressions_that_could_run_for_ever_are_left_alone(pattern: str) -> None:
    assert matches_of(f"{pattern}(?<!a)", 0, 4) == []


HOSTILE = [
    "def f(text):\n    '''Cut \\ud800 off the text.'''\n    return text.strip('\\ud800')\n",
    "def f(n=0x" + "f" * 5000 + "):\n    return n + 1\n",
    "def f(n):\n    return n + 1\nf(0x" + "f" * 5000 + ")\n",
    "def f(n):\n    return n + " + "+".join("1" * 400) + "\n",
    "def f(n):\n    return " + "(" * 80 + "n + 1" + ")" * 80 + "\n",
    "def f(text):\n    return [text.strip()]\nf('''\x0c\x1c\u2028''')\n",
    "def f(f):\n    return f.strip()\n",
    "def f(tuple: 'tuple[int, int]'):\n    return tuple[0]\n",
    "def f(random, word, given):\n    return random.strip() + word.strip() + given.strip()\n",
    "def main_solution(n):\n    return n + 1\n",
    "class f:\n    @staticmethod\n    def f(n):\n        return n + 1 if n else f.f(3)\n",
    "def f(text, *, key='a\\'b\\n', n=-1.5e300):\n    return text.strip() + key * int(n < 0)\n",
]


@pytest.mark.parametrize("content", HOSTILE)
def test_hostile_files_give_working_functions_or_a_reason(content: str) -> None:
    functions, reasons = transform(content)
    assert functions or reasons
    for row in functions.values():
        solve = load(row["code"], "main_solution")
        for given in inputs_of(row):
            solve(**given)
