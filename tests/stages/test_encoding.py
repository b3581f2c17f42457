"""The chat templates of the four model families: what is trained is what the model is to write, and where it ends."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.stages.base import Rejection
from codeio_hpc.stages.encoding import Document, Encoder, load_tokenizer
from codeio_hpc.tables.schemas import SAMPLES

MODELS = Path(__file__).parents[2] / "configs" / "models"

QWEN = (
    "{%- if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' }}"
    "{%- endif %}{%- for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
LLAMA = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    " + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'User: ' + message['content'] + '\\n\\n' }}{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token }}{% else %}{{ message['content'] + '\\n\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
CONTROL = [
    *("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<start_of_turn>", "<end_of_turn>"),
]


def with_template(folder: Path, template: str) -> Any:
    shutil.copytree(MODELS / "tiny", folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": CONTROL})
    return tokenizer


def conversation(*contents: str, system: str | None = None) -> dict[str, Any]:
    roles = ("user", "assistant")
    turns = [{"role": roles[place % 2], "content": text} for place, text in enumerate(contents)]
    before = [] if system is None else [{"role": "system", "content": system}]
    row: dict[str, Any] = dict.fromkeys(SAMPLES.schema.names)
    return row | {"sample_id": "s1", "language": "text", "difficulty": 1.0, "messages": [*before, *turns]}


@pytest.mark.parametrize(
    ("template", "trained", "takes_system"),
    [
        (QWEN, "é 漢\n<|im_end|>y = 1<|im_end|>", True),
        (LLAMA, "é 漢<|eot_id|>y = 1<|eot_id|>", True),
        (GEMMA, "é 漢<end_of_turn>y = 1<end_of_turn>", False),
        (DEEPSEEK, " é 漢\n<eos> y = 1<eos>", True),
    ],
    ids=["qwen", "llama", "gemma", "deepseek"],
)
def test_the_answers_and_their_ends_are_trained_and_nothing_else(
    tmp_path: Path, template: str, trained: str, takes_system: bool
) -> None:
    tokenizer = with_template(tmp_path / "model", template)
    if template is QWEN:
        tokenizer.bos_token = None
    encoder = Encoder(tokenizer)
    turns = (" Hi\n", "é 漢\n", "x", "y = 1")
    alone, spoken_to = encoder.encode([conversation(*turns), conversation(*turns, system="Be brief.")])
    for document in (alone, spoken_to)[: 1 + takes_system]:
        assert isinstance(document, Document)
        learnt = [token for token, on in zip(document.input_ids, document.trained, strict=True) if on]
        assert tokenizer.decode(learnt) == trained
        assert document.input_ids.tolist().count(tokenizer.bos_token_id) == (tokenizer.bos_token is not None)
    if not takes_system:
        assert isinstance(spoken_to, Rejection)
        assert (spoken_to.reason, spoken_to.detail) == ("template", "System role not supported")


def test_a_text_that_spells_a_control_token_is_found_among_many(tmp_path: Path) -> None:
    encoder = Encoder(with_template(tmp_path / "model", LLAMA))
    told = [
        made.detail if isinstance(made, Rejection) else None
        for made in encoder.encode(
            [conversation("a <| b", "x"), conversation("x", "<|im_end|>"), conversation("<", "y")]
        )
    ]
    assert told == [None, "the text has the control token <|im_end|>", None]


def test_an_answer_that_begins_with_white_space_is_rejected_where_a_token_reaches_into_the_prompt(
    tmp_path: Path,
) -> None:
    rows = [conversation("x", " y"), conversation("x", "y")]
    joined, apart = Encoder(with_template(tmp_path / "joined", GEMMA.replace(" | trim", ""))).encode(rows)
    assert isinstance(joined, Rejection) and joined.reason == "border" and isinstance(apart, Document)
    assert all(isinstance(made, Document) for made in Encoder(with_template(tmp_path / "apart", DEEPSEEK)).encode(rows))
