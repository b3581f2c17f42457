"""Records of every kind become one form, or are refused with what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codeio_hpc.config.samples import SampleSource
from codeio_hpc.errors import UserError
from codeio_hpc.stages.base import RefusedRowError
from codeio_hpc.stages.conversations import normalised, read_conversation, wanted_of
from codeio_hpc.stages.records import Raw

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


def wanted(fields: dict[str, Any], **source: Any) -> tuple[str, dict[str, str]]:
    made = SampleSource.model_validate({"name": "s", "path": "s.jsonl", **source})
    form, found = wanted_of(made, [Raw(1, fields)], "s.jsonl")
    return form, {**found.columns, **found.optional}


@pytest.mark.parametrize(
    ("fields", "form", "columns"),
    [
        ({"messages": [], "prompt": "", "id": 1}, "chat", {"messages": "messages"}),
        ({"conversations": [], "system": ""}, "chat", {"messages": "conversations", "system": "system"}),
        ({"prompt": "", "completion": ""}, "prompt", {"prompt": "prompt", "response": "completion"}),
        (
            {"instruction": "", "input": "", "output": ""},
            "prompt",
            {"prompt": "instruction", "input": "input", "response": "output"},
        ),
        ({"question": "", "answer": "", "text": ""}, "prompt", {"prompt": "question", "response": "answer"}),
        ({"text": "", "url": ""}, "text", {"text": "text"}),
        ({"content": ""}, "text", {"text": "content"}),
    ],
)
def test_the_usual_names_of_columns_tell_the_format(fields: dict[str, Any], form: str, columns: dict[str, str]) -> None:
    assert wanted(fields) == (form, columns)


def test_other_names_are_given_and_decide() -> None:
    fields = {"problem": "", "generated_solution": "", "messages": [], "text": ""}
    columns = {"response": "generated_solution"}
    assert wanted(fields, columns=columns) == ("prompt", {"prompt": "problem", "response": "generated_solution"})
    assert wanted(fields, format="text") == ("text", {"text": "text"})
    assert wanted(fields, columns={"text": "problem"}) == ("text", {"text": "problem"})


def test_a_column_that_few_records_have_is_not_taken_for_theirs() -> None:
    records = [Raw(number, {"text": "x", **({"messages": []} if number == 1 else {})}) for number in (1, 2, 3)]
    form, _ = wanted_of(SampleSource(name="s", path="s"), [*records, Raw(4, {}, "broken_record: x")], "s")
    assert form == "text"


def test_columns_that_tell_nothing_are_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match="do not tell") as caught:
        wanted({"foo": 1, "bar": 2})
    assert "bar, foo" in caught.value.why and "messages: NAME" in caught.value.fix
    with pytest.raises(UserError) as caught:
        wanted({"prompt": ""}, format="prompt")
    assert "response: NAME" in caught.value.fix


def chat(*messages: Any, **more: Any) -> list[dict[str, str]]:
    return read_conversation("chat", json.dumps({"messages": messages, **more}))


def test_chats_of_both_kinds_are_the_same() -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert chat(USER, ASSISTANT) == chat(*turns) == [USER, ASSISTANT]
    assert chat({"role": "User", "content": "Hi", "name": "x"}, ASSISTANT) == [USER, ASSISTANT]


def test_an_empty_system_message_says_nothing_and_another_stays() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert chat({"role": "system", "content": " "}, USER, ASSISTANT) == [USER, ASSISTANT]
    assert chat(system, USER, ASSISTANT) == chat(USER, ASSISTANT, system="Be brief.") == [system, USER, ASSISTANT]


def test_prompts_with_input_lists_of_messages_and_system_become_chats() -> None:
    def prompt(**parts: Any) -> list[dict[str, str]]:
        return read_conversation("prompt", json.dumps(parts))

    asked = {"role": "user", "content": "Add.\n1 2"}
    assert prompt(prompt="Add.", input="1 2", response="Hello") == [asked, ASSISTANT]
    assert prompt(prompt="Hi", input=" ", response="Hello") == [USER, ASSISTANT]
    assert prompt(prompt=[USER], response=[ASSISTANT]) == [USER, ASSISTANT]
    assert prompt(prompt="Hi", response="Hello", system="S")[0] == {"role": "system", "content": "S"}


def test_plain_text_stays_as_it_is() -> None:
    assert read_conversation("text", " x\t\n") == [{"role": "text", "content": " x\t\n"}]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "empty"),
        ([{"role": "system", "content": ""}], "empty"),
        ([USER, {"role": "assistant", "content": " \n"}], "empty"),
        ([{"role": "user", "content": ""}, ASSISTANT], "empty"),
        ([USER], "no_assistant"),
        ([{"role": "system", "content": "x"}, USER], "no_assistant"),
        ([ASSISTANT], "bad_roles"),
        ([USER, ASSISTANT, USER], "bad_roles"),
        ([USER, USER, ASSISTANT], "bad_roles"),
        ([USER, ASSISTANT, ASSISTANT], "bad_roles"),
        ([USER, {"role": "system", "content": "x"}, ASSISTANT], "bad_roles"),
        ([USER, {"role": "tool", "content": "x"}, ASSISTANT], "bad_roles"),
        ([USER, {"content": "x"}], "bad_roles"),
        ([USER, {"role": ["assistant"], "content": "x"}], "bad_roles"),
        ([USER, {"role": "assistant", "content": None}], "not_text"),
        ([USER, {"role": "assistant", "content": [{"type": "text", "text": "x"}]}], "not_text"),
        ([USER, "Hello"], "not_text"),
        ([USER, {"role": "assistant", "content": "a\0b"}], "not_text"),
    ],
)
def test_what_is_no_conversation_is_refused_for_its_reason(messages: list[Any], reason: str) -> None:
    with pytest.raises(RefusedRowError) as caught:
        chat(*messages)
    assert caught.value.reason == reason and caught.value.detail


def test_equal_is_what_differs_in_white_space_at_edges_only() -> None:
    def of(text: str) -> list[str]:
        return normalised([{"role": "user", "content": text}])

    assert of("a  \r\n b\n\n") == of("\na\n b")
    assert of("a\nb") != of("a\n b") and of("A") != of("a")
    assert of("x") != normalised([{"role": "assistant", "content": "x"}])
