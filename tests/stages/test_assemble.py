"""assemble: which instances become samples, and in which form."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config import load_yaml
from codeio_hpc.stages.assemble import Assemble, codeio, codeio_plus_plus
from codeio_hpc.tables.schemas import CONVERSATIONS
from tests.conftest import ROOT
from tests.stages.house import House, config, pair

TURNS = [
    {"response": "R1", "category": "wrong", "feedback": "The output is not 1.", "prediction": "1"},
    {"response": "R2", "category": "correct", "feedback": "That is right.", "prediction": "2"},
]


def test_codeio_is_the_first_response_and_codeio_plus_plus_all_turns() -> None:
    assert codeio(TURNS) == "R1"
    assert codeio_plus_plus(TURNS) == (
        "R1\nLet me check that. The output is not 1.\nSo I have to think again.\nR2\nLet me check that. That is right."
    )
    assert codeio_plus_plus(TURNS[1:]) == "R2\nLet me check that. That is right."


def test_direct_answers_are_the_executed_values(tmp_path: Path, stack: ExitStack) -> None:
    house = House(config(assemble={"instructions": "direct-answers"}), tmp_path, stack)
    samples, _ = house.run(Assemble(), house.conversations([pair(4)]))
    assert [(row["training_stage"], row["format"]) for row in samples] == [
        ("stage1", "codeio++"),
        ("stage2", "direct-answers"),
    ] * 2
    assert samples[1]["messages"][1]["content"] == '{"output": 12}'
    assert samples[3]["messages"][1]["content"] == '{"input": {"values":[4,-1,8]}}'


def conversation(number: int, direction: str, *categories: str, **columns: Any) -> dict[str, Any]:
    turns = [
        {"response": f"R{turn}", "category": category, "feedback": f"F{turn}", "prediction": None}
        for turn, category in enumerate(categories)
    ]
    row: dict[str, Any] = dict.fromkeys(CONVERSATIONS.schema.names, "")
    row |= pair(number) | {"conversation_id": f"c{number}{direction}", "instance_id": f"i{number}{direction}"}
    return row | {"direction": direction, "prompt": "P", "turns": turns, "examples": None, "difficulty": 1.0, **columns}


def assembled(tmp_path: Path, stack: ExitStack, rows: list[dict[str, Any]], **settings: Any) -> tuple[Any, Any]:
    kept, rejected = House(config(assemble=settings), tmp_path, stack).run(Assemble(), rows)
    texts = [[message["content"] for message in row["messages"]] for row in kept]
    return texts, [(row["row_id"], row["reason"]) for row in rejected]


def test_wrong_answers_are_kept_dropped_or_replaced(tmp_path: Path, stack: ExitStack) -> None:
    rows = [conversation(2, "output", "correct"), conversation(3, "output", "wrong", "correct")]
    rows += [conversation(4, "input", "wrong", "wrong")]
    kept, rejected = assembled(tmp_path, stack, rows, format="codeio")
    assert kept == [["P", "R0"]] * 3 and not rejected
    kept, rejected = assembled(tmp_path, stack, rows, format="codeio", wrong="drop")
    assert kept == [["P", "R0"]] and rejected == [("c3output", "wrong"), ("c4input", "wrong")]
    kept, rejected = assembled(tmp_path, stack, rows, wrong="drop")
    assert len(kept) == 2 and rejected == [("c4input", "wrong")]
    kept, _ = assembled(tmp_path, stack, rows, format="codeio", wrong="ground-truth")
    assert [text for _, text in kept] == ["R0", '{"output": 9}', '{"input": {"values":[4,-1,8]}}']


def test_instances_are_left_out_by_source_direction_pair_and_share(tmp_path: Path, stack: ExitStack) -> None:
    rows = [conversation(n, way, "correct") for n in range(10) for way in ("output", "input")]
    kept, rejected = assembled(tmp_path, stack, rows, directions=["input"])
    assert len(kept) == 10 and {reason for _, reason in rejected} == {"direction"}
    kept, rejected = assembled(tmp_path, stack, rows, leave_out=["s"])
    assert not kept and {reason for _, reason in rejected} == {"left_out"}
    for sixths, pairs in ((1, 2), (2, 4), (3, 5), (4, 7), (5, 9), (6, 10)):
        kept, _ = assembled(tmp_path, stack, rows, pairs_fraction=sixths / 6)
        assert len(kept) == 2 * pairs, "of ten pairs the first, rounded up"
        preset = load_yaml(ROOT / f"configs/runs/ablations/pairs-{sixths}-of-6.yaml")["assemble"]
        kept, _ = assembled(tmp_path, stack, [row | {"pairs": 6} for row in rows if row["position"] < 6], **preset)
        assert len(kept) == 2 * sixths, "a sixth as the preset writes it"
    many = [conversation(n, "output", "correct") for n in range(400)]
    many = [row | {"position": 0} for row in many]
    half, rejected = assembled(tmp_path, stack, many, fraction=0.5)
    assert 150 < len(half) < 250 and len(half) + len(rejected) == 400
    assert assembled(tmp_path, stack, many, fraction=0.5) == (half, rejected)


@pytest.mark.parametrize(
    ("settings", "shows", "answers"),
    [
        ({"prompt": "question+code"}, (True, True), (False, True)),
        ({"prompt": "question"}, (True, False), (False, True)),
        ({"prompt": "code"}, (False, True), (False, True)),
        ({"prompt": "question", "response": "code+cot"}, (True, False), (True, True)),
        ({"prompt": "question", "response": "code"}, (True, False), (True, False)),
    ],
)
def test_prompt_and_response_take_the_forms_of_the_papers_third_table(
    settings: dict[str, str], shows: tuple[bool, bool], answers: tuple[bool, bool], tmp_path: Path, stack: ExitStack
) -> None:
    [[prompt, response]], _ = assembled(tmp_path, stack, [conversation(2, "output", "correct")], **settings)
    assert ("sum of the positive" in prompt, "def total" in prompt) == shows
    assert ("def total" in response, "R0" in response) == answers
    assert '"values":[2,-1,4]' in prompt or settings.get("response") == "code"


def test_code_is_never_both_shown_and_asked_for() -> None:
    with pytest.raises(ValueError, match="set prompt: question"):
        config(assemble={"response": "code", "prompt": "code"})
