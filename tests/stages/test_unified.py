"""Functions that come in the unified format: held to the rules of lifted ones, with generators that take a generator
of random numbers made to fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config.run import CollectSettings, RunConfig, Source, TransformSettings
from codeio_hpc.errors import UserError
from codeio_hpc.sandbox import FunctionRequest, Generator, Pool
from codeio_hpc.stages.base import Rejection
from codeio_hpc.stages.collect import Collect, list_sources
from codeio_hpc.stages.static.module import Refused
from codeio_hpc.stages.static.reply import HEADINGS
from codeio_hpc.stages.static.unified import UnifiedFunction, finish
from codeio_hpc.stages.transform import Transform
from tests.stages.drive import context_for, run_gather, run_map

CODE = '''
import math
import random  # not used, not carried along

def helper(n):
    """Not shown."""
    return math.isqrt(n)

def main_solution(number, offset=1):
    # the root, moved
    return helper(number) + offset
'''
GENERATOR = """
def generate_inputs(rng: Random) -> dict:
    return {"number": rng.randint(0, 10 ** 6), "offset": math.floor(rng.uniform(0, 9))}
"""
SPEC = "Input:\n  `number` (int): a number.\n  `offset` (int): a shift.\n\nOutput:\n  `return` (int): the root."
PARTS = {
    "code": CODE,
    "generator": GENERATOR,
    "io_description": SPEC,
    "question": "What is the moved root of `number`?",
}


def finished(**parts: str) -> Any:
    return finish(UnifiedFunction(**{**PARTS, **parts}), TransformSettings())


def test_a_function_is_taken_with_what_it_needs() -> None:
    draft = finished()
    assert "import math" in draft.code and "import random" not in draft.code and "Not shown" not in draft.code
    assert json.loads(draft.parameters) == [
        {"name": "number", "type": "int", "origin": "given"},
        {"name": "offset", "type": "int", "origin": "given"},
    ]
    assert draft.io_description == SPEC and draft.entry_point == "main_solution"


def test_its_generator_is_seeded_and_runs_by_itself() -> None:
    draft = finished()
    with Pool() as pool:
        drawn = [
            pool.run(FunctionRequest("f", draft.code, "main_solution", generator=Generator(draft.generator, seed=seed)))
            for seed in (1, 1, 2)
        ]
    inputs = [[one.input for one in result.results] for result in drawn]
    assert len(inputs[0]) == 10 and inputs[0] == inputs[1] != inputs[2]
    assert {one.verdict for one in drawn[0].results} == {"ok"}


@pytest.mark.parametrize(
    ("part", "text", "reason"),
    [
        ("code", "def main_solution(:", "not_parseable"),
        ("code", "def other(number):\n    return number", "no_entry_point"),
        ("code", "main_solution = len", "no_entry_point"),
        ("code", "def main_solution():\n    return 1", "no_parameters"),
        ("code", "def main_solution(*number):\n    return number", "signature"),
        ("code", "def main_solution(number):\n    print(number)\n    return 1", "impure:print"),
        ("code", "import numpy as np\ndef main_solution(number):\n    return np.random.rand()", "impure:numpy.random"),
        ("code", "def main_solution(number):\n    number + 1", "no_result"),
        ("code", "def main_solution(number):\n    return missing(number)", "unknown_name"),
        ("code", "def main_solution(number):\n    return number" + " + 1" * 900, "too_long"),
        ("code", "  \n", "missing_part"),
        ("question", "", "missing_part"),
        ("generator", "x = 3", "generator"),
        ("generator", "def input_generator(:", "generator"),
        ("generator", "def input_generator(a, b):\n    return {'number': 1}", "generator"),
        ("generator", "def input_generator():\n    return {'nunber': 1}", "generator"),
        ("generator", "def input_generator():\n    return {'offset': 1}", "generator"),
        ("generator", "def input_generator():\n    return {'number': secrets.randbelow(3)}", "generator"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(part: str, text: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        finished(**{part: text})
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "generator",
    [
        "import random\ndef input_generator():\n    return {'number': random.randint(0, 9)}",
        "def one(rng):\n    return rng.randint(0, 9)\ndef make(rng: 'Random'):\n    return {'number': one(rng)}",
        "def input_generator():\n    given = {}\n    given['number'] = random.choice([1, 2])\n    return given",
        "def input_generator(rng):\n    return {'number': int(np.sqrt(rng.random()))}",
    ],
)
def test_generators_of_every_usual_form_are_taken(generator: str) -> None:
    draft = finished(generator=generator)
    with Pool() as pool:
        request = FunctionRequest("f", draft.code, "main_solution", generator=Generator(draft.generator, count=1))
        assert pool.run(request).results[0].verdict == "ok"


def test_records_of_functions_go_from_file_to_functions(tmp_path: Path) -> None:
    rows = [
        {"code_sample": CODE, "gen": GENERATOR, "io_description": SPEC, "question": "What?", "id": 7},
        {"code_sample": "def nothing(): pass", "gen": GENERATOR, "io_description": SPEC, "question": "What?"},
        {"code_sample": CODE, "gen": None, "io_description": SPEC, "question": "What?"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"code": "code_sample", "generator": "gen"}
    source = Source.model_validate({"name": "rg", "path": str(tmp_path / "rows.jsonl"), "functions": columns})
    config = RunConfig(name="t", sources=(source,), collect=CollectSettings(near_duplicates=None))
    files, dropped = run_gather(Collect(), list(list_sources(config)), context_for(Collect(), config))
    assert [item.reason for item in dropped] == ["no_content"]
    assert json.loads(files[0]["provenance"]) == {"id": 7}
    functions, refused = run_map(Transform(), files, context_for(Transform(), config))
    assert [row["path"] for row in functions] == ["rows.jsonl:1"]
    assert [(item.reason, isinstance(item, Rejection)) for item in refused] == [("no_entry_point", True)]
    wrong = source.model_copy(update={"functions": None})
    with pytest.raises(UserError, match="content"):
        list(list_sources(config.model_copy(update={"sources": (wrong,)})))


def test_replies_of_a_model_go_from_file_to_functions_and_stay_where_they_are_refused(tmp_path: Path) -> None:
    code = "def main_solution(eggs):\n    return eggs // 6\n"
    generator = "import random\n\ndef input_generator():\n    return {'eggs': random.randint(1, 99)}\n"
    parts = [
        f"```python\n{code}```",
        "`eggs` (int): eggs.",
        f"```python\n{generator}```",
        "How many boxes do eggs fill?",
    ]
    good = "".join(f"## {heading}\n{part}\n" for heading, part in zip(HEADINGS.values(), parts, strict=True))
    replies = [
        good,
        good.replace("## Problem Statement", "**Question:**"),
        good.replace("do eggs fill", "are filled"),
        good.replace("## Input Generator", ""),
        "I am sorry, but this file holds no function that could be used in this way.",
        good.replace("eggs // 6", "random.random()").replace("def main", "import random\n\ndef main"),
    ]
    path = tmp_path / "replies.jsonl"
    path.write_text("".join(json.dumps({"reply": text, "model": "m"}) + "\n" for text in replies))
    source = Source.model_validate({"name": "model", "path": str(path), "replies": "reply"})
    config = RunConfig(name="t", sources=(source,), collect=CollectSettings(near_duplicates=None))
    files, _ = run_gather(Collect(), list(list_sources(config)), context_for(Collect(), config))
    assert [row["content"] for row in files] == replies, "every raw reply is kept"
    context = context_for(Transform(), config)
    functions, refused = run_map(Transform(), files, context)
    assert [row["path"] for row in functions] == ["replies.jsonl:1", "replies.jsonl:2"]
    assert [item.reason for item in refused] == [
        "question_without",
        "missing_heading",
        "missing_heading",
        "impure:random",
    ]
    assert context.counts["repaired:heading"] == 1
