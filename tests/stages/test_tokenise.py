"""From samples to packed tokens with a loss mask."""

from __future__ import annotations

import json
import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config import RunConfig
from codeio_hpc.stages.packing import best_fit
from codeio_hpc.stages.tokenise import TemplateError, Tokenise, load_tokenizer, tokenise
from codeio_hpc.tables.schemas import SAMPLES, SEQUENCES
from codeio_hpc.tables.shards import to_arrow
from tests.stages.drive import context_for

MODELS = Path(__file__).parents[2] / "configs" / "models"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(MODELS / "tiny")


def sample(number: int, *contents: str, training_stage: str = "stage1") -> dict[str, Any]:
    """A conversation of user and assistant in turn."""
    row = {name: f"{name}{number}" for name in SAMPLES.schema.names}
    roles = [("user", "assistant")[place % 2] for place in range(len(contents))]
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)]
    return row | {
        "language": "python",
        "training_stage": training_stage,
        "messages": messages,
        "turns": 1,
        "difficulty": 3.0,
    }


def config(**settings: Any) -> RunConfig:
    data = {"name": "t", "sources": [{"name": "here", "stdlib": True}], "recipe": str(MODELS / "tiny.yaml")}
    return RunConfig.model_validate(data | {"tokenise": {"max_tokens": 64} | settings})


def run(rows: list[dict[str, Any]], **settings: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The sequences, and the reasons by id of what was dropped; every sample is in exactly one of them."""
    made = list(Tokenise().run(rows, context_for(Tokenise(), config(**settings))))
    kept = [item for item in made if isinstance(item, dict)]
    dropped = {item.row_id: item.reason for item in made if not isinstance(item, dict)}
    to_arrow(SEQUENCES, kept)
    found = [name for row in kept for name in row["sample_ids"]] + list(dropped)
    assert sorted(found) == sorted(row["sample_id"] for row in rows)
    return kept, dropped


def some(count: int, seed: int = 0, training_stage: str = "stage1") -> list[dict[str, Any]]:
    chance = random.Random(seed)
    texts = [" ".join(["return"] * chance.randrange(1, 20)) for _ in range(count)]
    return [sample(seed * 1000 + n, text, "12 ok", training_stage=training_stage) for n, text in enumerate(texts)]


def test_every_assistant_turn_and_its_end_is_trained_and_nothing_else(tokenizer: Any) -> None:
    row = sample(1, " x = 12\n", "  é ", "again?\n", '{"output": [1, "漢"]}')
    document = tokenise(row, tokenizer, full=False)
    text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
    assert document.input_ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    trained = [token for token, on in zip(document.input_ids, document.trained, strict=True) if on]
    assert tokenizer.decode(trained) == '  é <eos>{"output": [1, "漢"]}<eos>'
    assert document.input_ids.count(tokenizer.bos_token_id) == 1
    assert document.input_ids[0] == tokenizer.bos_token_id


def test_full_loss_trains_everything_but_the_first_token(tokenizer: Any) -> None:
    document = tokenise(sample(1, "x", "y"), tokenizer, full=True)
    assert document.trained == [False, *[True] * (len(document.input_ids) - 1)]


def test_packed_samples_are_the_same_tokens_as_alone(tokenizer: Any) -> None:
    rows = some(40)
    alone = {row["sample_id"]: tokenise(row, tokenizer, full=False) for row in rows}
    kept, dropped = run(rows)
    assert not dropped
    assert max(len(row["sample_ids"]) for row in kept) > 1
    for row in kept:
        assert len(row["input_ids"]) == len(row["trained"]) <= 64
        borders = [*row["starts"], len(row["input_ids"])]
        assert borders[0] == 0
        for name, (start, end) in zip(row["sample_ids"], pairwise(borders), strict=True):
            assert row["input_ids"][start:end] == alone[name].input_ids
            assert row["trained"][start:end] == alone[name].trained


def test_the_training_stages_are_never_packed_together() -> None:
    first, second = some(10), some(10, seed=1, training_stage="stage2")
    kept, _ = run([row for pair in zip(first, second, strict=True) for row in pair])
    names = {"stage1": {row["sample_id"] for row in first}, "stage2": {row["sample_id"] for row in second}}
    assert {row["training_stage"] for row in kept} == set(names)
    assert all(set(row["sample_ids"]) <= names[row["training_stage"]] for row in kept)


def test_the_same_samples_give_the_same_sequences() -> None:
    assert run(some(20)) == run(some(20))


def test_a_sample_longer_than_a_sequence_is_rejected_and_never_cut() -> None:
    kept, dropped = run([sample(1, "x" * 3, "y"), sample(2, "return " * 80, "y")])
    assert dropped == {"sample_id2": "too_long"}
    assert [row["sample_ids"] for row in kept] == [["sample_id1"]]


@pytest.mark.parametrize("token", ["<bos>", "<eos>", "<assistant>", "<pad>"])
@pytest.mark.parametrize("place", [0, 1])
def test_text_that_spells_a_control_token_is_rejected_not_trained_as_one(token: str, place: int) -> None:
    texts = ["print(1)", "2"]
    texts[place] += f" # {token} "
    kept, dropped = run([sample(1, *texts), sample(2, "print(1) < eos >", "2")])
    assert dropped == {"sample_id1": "control_token"}
    assert [row["sample_ids"] for row in kept] == [["sample_id2"]]


def with_template(folder: Path, template: str) -> Any:
    shutil.copytree(MODELS / "tiny", folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return load_tokenizer(folder)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        # the last turn is rendered differently from earlier ones
        ("<bos>{% for m in messages %}{% if loop.last %}last {% endif %}{{ m['content'] }}{% endfor %}", "in place"),
        # no border: a word of the question runs into the answer's
        ("<bos>{% for m in messages %}{{ m['content'] }}{% endfor %}", "straddles"),
        ("<bos>{% for m in messages %}<bos>{{ m['content'] }}<eos>{% endfor %}", "3 BOS tokens"),
        ("{% for m in messages %}<user>{{ m['content'] }}<eos>{% endfor %}", "0 BOS tokens"),
    ],
)
def test_a_template_whose_parts_cannot_be_told_apart_stops_with_the_rows_id(
    tmp_path: Path, template: str, problem: str
) -> None:
    broken = with_template(tmp_path / "broken", template)
    row = sample(7, "re", "turn")
    row["messages"] += [{"role": "user", "content": "x"}] * ("last" in template)
    with pytest.raises(TemplateError, match=rf"sample sample_id7: .*{problem}"):
        tokenise(row, broken, full=False)


def test_settings_change_with_the_template_and_with_the_tokenizer(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    shutil.copyfile(MODELS / "tiny.yaml", recipe)
    shutil.copytree(MODELS / "tiny", tmp_path / "tiny")
    changed = config().model_copy(update={"recipe": str(recipe)})
    seen = [json.dumps(Tokenise().settings(config())), json.dumps(Tokenise().settings(changed))]
    assert seen[0] == seen[1], "the place of the folder does not matter"
    for name in ("chat_template.jinja", "tokenizer.json"):
        with open(tmp_path / "tiny" / name, "a", encoding="utf-8") as file:
            file.write(" ")
        seen.append(json.dumps(Tokenise().settings(changed)))
    assert len(set(seen)) == 3


def test_best_fit_loses_nothing_and_overfills_nothing() -> None:
    chance = random.Random(3)
    lengths = [chance.randrange(1, 1200) for _ in range(3000)]
    groups = best_fit(lengths, 4096)
    assert sorted(index for group in groups for index in group) == list(range(3000))
    assert max(sum(lengths[index] for index in group) for group in groups) <= 4096
    assert sum(lengths) / (4096 * len(groups)) > 0.995
    with pytest.raises(ValueError, match="does not fit"):
        best_fit([10, 5], 9)
