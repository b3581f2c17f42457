"""From samples to packed tokens with a loss mask."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from codeio_hpc.config import RunConfig
from codeio_hpc.config.run import TokeniseSettings
from codeio_hpc.errors import UserError
from codeio_hpc.stages.base import Rejection
from codeio_hpc.stages.encoding import Document, Encoder, TemplateError, load_tokenizer
from codeio_hpc.stages.packing import best_fit
from codeio_hpc.stages.tokenise import Tokenise
from codeio_hpc.tables.schemas import SAMPLES, SEQUENCES
from codeio_hpc.tables.shards import to_arrow
from tests.stages.drive import context_for

MODELS = Path(__file__).parents[2] / "configs" / "models"
NO_LIMIT = {"tokenise": TokeniseSettings()}


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
        "repeats": 1,
    }


def encode(row: dict[str, Any], tokenizer: Any, loss_on: Any = "assistant") -> Any:
    """The document, with lists in place of arrays."""
    [document] = Encoder(tokenizer, loss_on).encode([row])
    assert isinstance(document, Document), document
    return replace(document, input_ids=document.input_ids.tolist(), trained=document.trained.tolist())


def config(**settings: Any) -> RunConfig:
    data = {"name": "t", "sources": [{"name": "here", "stdlib": True}], "recipe": str(MODELS / "tiny.yaml")}
    return RunConfig.model_validate(data | {"tokenise": {"max_tokens": 64} | settings})


def plainly(sequence: dict[str, Any]) -> dict[str, Any]:
    """With lists in place of arrays."""
    return sequence | {name: sequence[name].tolist() for name in ("input_ids", "trained")}


def run(rows: list[dict[str, Any]], **settings: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The sequences, and the reasons by id of what was dropped; every sample is in exactly one of them."""
    made = list(Tokenise().run(rows, context_for(Tokenise(), config(**settings))))
    kept = [plainly(item) for item in made if isinstance(item, dict)]
    dropped = {item.row_id: item.reason for item in made if not isinstance(item, dict)}
    to_arrow(SEQUENCES, kept)
    found = {name for row in kept for name in row["sample_ids"]} | dropped.keys()
    assert sorted(found) == sorted(row["sample_id"] for row in rows)
    return kept, dropped


def some(count: int, seed: int = 0, training_stage: str = "stage1") -> list[dict[str, Any]]:
    chance = random.Random(seed)
    texts = [" ".join(["return"] * chance.randrange(1, 20)) for _ in range(count)]
    return [sample(seed * 1000 + n, text, "12 ok", training_stage=training_stage) for n, text in enumerate(texts)]


def test_every_assistant_turn_and_its_end_is_trained_and_nothing_else(tokenizer: Any) -> None:
    row = sample(1, " x = 12\n", "  é ", "again?\n", '{"output": [1, "漢"]}')
    document = encode(row, tokenizer)
    text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
    assert document.input_ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    trained = [token for token, on in zip(document.input_ids, document.trained, strict=True) if on]
    assert tokenizer.decode(trained) == '  é <eos>{"output": [1, "漢"]}<eos>'
    assert document.input_ids.count(tokenizer.bos_token_id) == 1
    assert document.input_ids[0] == tokenizer.bos_token_id


def test_full_loss_trains_everything_but_the_first_token(tokenizer: Any) -> None:
    document = encode(sample(1, "x", "y"), tokenizer, "full")
    assert document.trained == [False, *[True] * (len(document.input_ids) - 1)]


def test_of_several_turns_the_last_one_alone_can_be_trained(tokenizer: Any) -> None:
    document = encode(sample(1, "x", "first", "y", "second"), tokenizer, "last")
    trained = [token for token, on in zip(document.input_ids, document.trained, strict=True) if on]
    assert tokenizer.decode(trained) == "second<eos>"


def plain(number: int, text: str, **more: Any) -> dict[str, Any]:
    return sample(number, "") | {"messages": [{"role": "text", "content": text}], "format": "text", **more}


def test_plain_text_is_trained_whole_between_bos_and_eos(tokenizer: Any, tmp_path: Path) -> None:
    text = "def f():\n    return 1\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    document = encode(plain(1, text), tokenizer)
    assert document.input_ids == [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    assert document.trained == [False, *[True] * (len(ids) + 1)]
    without = with_settings(tmp_path / "without", bos_token=None)
    document = encode(plain(1, text), without)
    assert document.input_ids == [*ids, tokenizer.eos_token_id] and all(document.trained)
    with pytest.raises(UserError, match="no EOS token"):
        encode(plain(1, text), with_settings(tmp_path / "endless", eos_token=None))


def test_plain_text_needs_no_chat_template_and_a_conversation_does(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "tiny", tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    base = load_tokenizer(tmp_path / "base")
    assert encode(plain(1, "x"), base).input_ids
    with pytest.raises(UserError, match="no chat template") as caught:
        encode(sample(1, "x", "y"), base)
    assert "chat_template.jinja" in caught.value.fix


def with_settings(folder: Path, **changed: Any) -> Any:
    shutil.copytree(MODELS / "tiny", folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | changed
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
    return load_tokenizer(folder)


def test_what_the_template_refuses_is_rejected_with_its_words() -> None:
    row = sample(1, "x", "y")
    row["messages"].insert(0, {"role": "system", "content": "Be brief."})
    made = list(Tokenise().run([row, sample(2, "x", "y")], context_for(Tokenise(), config())))
    assert [(item.reason, item.detail) for item in made if isinstance(item, Rejection)] == [
        ("template", "roles are user and assistant")
    ]


def test_each_training_stage_is_packed_to_the_length_that_the_recipe_gives_it(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "tiny", tmp_path / "tiny")
    recipe = yaml.safe_load((MODELS / "tiny.yaml").read_text(encoding="utf-8"))
    recipe["facts"]["context"] = 2048
    recipe["stages"]["rft"] = {**recipe["stages"]["stage2"], "sequence_length": 2048}
    recipe["stages"]["stage2"]["sequence_length"] = 40
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    rows = [
        sample(number, "return " * 50, "y " * length, training_stage=stage)
        for number, (stage, length) in enumerate(
            [("stage2", 1), ("stage1", 1), ("stage1", 800), ("rft", 800), ("rft", 1200)]
        )
    ]
    chosen = {"recipe": str(tmp_path / "tiny.yaml")}
    made = list(Tokenise().run(rows, context_for(Tokenise(), config().model_copy(update=chosen | NO_LIMIT))))
    assert {item.row_id for item in made if isinstance(item, Rejection)} == {"sample_id0", "sample_id2", "sample_id4"}
    made = list(Tokenise().run(rows, context_for(Tokenise(), config(max_tokens=1024).model_copy(update=chosen))))
    assert {item.row_id for item in made if isinstance(item, Rejection)} == {f"sample_id{n}" for n in (0, 2, 3, 4)}


def test_a_sample_is_packed_as_often_as_it_is_to_be_trained() -> None:
    rows = [{**row, "repeats": 1 + number % 3} for number, row in enumerate(some(9))]
    rows.append({**sample(99, "return " * 50, "y"), "repeats": 3})  # alone in its sequence, each time
    kept, _ = run(rows, max_tokens=110)
    packed = Counter(name for row in kept for name in row["sample_ids"])
    assert packed == {row["sample_id"]: row["repeats"] for row in rows}
    assert len({row["sequence_id"] for row in kept}) == len(kept)


def test_packed_samples_are_the_same_tokens_as_alone(tokenizer: Any) -> None:
    rows = some(40)
    alone = {row["sample_id"]: encode(row, tokenizer) for row in rows}
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


PROMPT = "{% if add_generation_prompt %}<assistant>{% endif %}"


def test_a_line_feed_that_a_template_puts_behind_the_end_of_a_turn_is_not_trained(tmp_path: Path) -> None:
    template = "<bos>{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<eos>\n{% endfor %}" + PROMPT
    lines = with_template(tmp_path / "lines", template)
    document = encode(sample(1, "x", "y", "z", "w"), lines)
    trained = [token for token, on in zip(document.input_ids, document.trained, strict=True) if on]
    assert lines.decode(trained) == "y<eos>w<eos>"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        # the last turn is rendered differently from earlier ones
        ("<bos>{% for m in messages %}{% if loop.last %}last {% endif %}{{ m['content'] }}{% endfor %}", "in place"),
        # no border: a word of the question runs into the answer's
        ("<bos>{% for m in messages %}{{ m['content'] }}{% endfor %}", "straddles"),
        ("<bos>{% for m in messages %}<bos>{{ m['content'] }}<eos>{% endfor %}", "3 BOS tokens"),
        ("{% for m in messages %}<user>{{ m['content'] }}<eos>{% endfor %}", "0 BOS tokens"),
        # nothing ends the answer: it would be learnt never to end
        ("<bos>{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}" + PROMPT, "control token"),
        ("<bos>{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<eos>.{% endfor %}" + PROMPT, "control"),
        # no generation prompt: what the template writes before the answer would be trained
        ("<bos>{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<eos>{% endfor %}", "generation prompt"),
        ("<bos>{{ messages | nonsense }}", "the chat template fails"),
    ],
)
def test_a_template_whose_parts_cannot_be_told_apart_stops_with_the_rows_id(
    tmp_path: Path, template: str, problem: str
) -> None:
    broken = with_template(tmp_path / "broken", template)
    row = sample(7, "re", "turn")
    row["messages"] += [{"role": "user", "content": "x"}] * ("last" in template)
    with pytest.raises(TemplateError, match=rf"sample sample_id7: .*{problem}"):
        encode(row, broken)


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


def test_each_document_goes_into_the_fullest_sequence_that_has_room() -> None:
    for seed in range(30):
        chance = random.Random(seed)
        lengths = [chance.randrange(1, 60) for _ in range(60)]
        rooms: list[int] = []
        for length in sorted(lengths, reverse=True):
            fitting = [room for room in rooms if room >= length]
            if fitting:
                rooms.remove(min(fitting))
            rooms.append((min(fitting) if fitting else 64) - length)
        made = [64 - sum(lengths[index] for index in group) for group in best_fit(lengths, 64)]
        assert sorted(made) == sorted(rooms)


def test_best_fit_loses_nothing_and_overfills_nothing() -> None:
    chance = random.Random(3)
    lengths = [chance.randrange(1, 1200) for _ in range(3000)]
    groups = best_fit(lengths, 4096)
    assert sorted(index for group in groups for index in group) == list(range(3000))
    assert max(sum(lengths[index] for index in group) for group in groups) <= 4096
    assert sum(lengths) / (4096 * len(groups)) > 0.995
    with pytest.raises(ValueError, match="does not fit"):
        best_fit([10, 5], 9)
