"""Conversations as other people's files write them: which columns hold them, and one form for all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from codeio_hpc.config.samples import SampleFormat, SampleSource
from codeio_hpc.errors import UserError
from codeio_hpc.stages.base import RefusedRowError
from codeio_hpc.stages.records import FIRST, Raw, Wanted

Message = dict[str, str]

PLAIN_TEXT = "text"
"""The role of the one message that a document of plain text consists of."""

USUAL = {
    "messages": ("messages", "conversations", "conversation"),
    "prompt": ("prompt", "instruction", "question", "problem", "query"),
    "input": ("input",),
    "response": ("completion", "response", "output", "answer", "solution"),
    "system": ("system", "system_prompt"),
    "text": ("text", "content"),
}
"""What columns are called: OpenAI and TRL, ShareGPT, Alpaca, and data sets of questions and answers."""
_PARTS: Mapping[SampleFormat, tuple[str, ...]] = {
    "chat": ("messages",),
    "prompt": ("prompt", "response"),
    "text": ("text",),
}
"""What a record of each format must have, in the order in which formats are looked for."""
_OPTIONAL: Mapping[SampleFormat, tuple[str, ...]] = {"chat": ("system",), "prompt": ("input", "system"), "text": ()}
_TYPES: Mapping[str, tuple[type, ...]] = {"messages": (list,), "prompt": (str, list), "response": (str, list)}

_ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot"), "assistant"),
}


def wanted_of(source: SampleSource, first: Sequence[Raw], where: str) -> tuple[SampleFormat, Wanted]:
    """The format of a source's records, and which of their columns hold what: as the configuration says, else by the
    names that at least half of the first records have.

    Raises:
        UserError: neither tells.
    """
    found = [set(raw.fields) for raw in first if raw.problem is None]
    asked = source.columns.model_dump()

    def column(part: str) -> str | None:
        usual = (name for name in USUAL[part] if 2 * sum(name in fields for fields in found) >= len(found) > 0)
        return asked[part] or next(usual, None)

    chosen = source.format or source.columns.form
    for form in (chosen,) if chosen else _PARTS:
        columns = {part: column(part) for part in _PARTS[form]}
        if None not in columns.values():
            optional = {part: column(part) for part in _OPTIONAL[form]}
            return form, Wanted(
                {part: str(name) for part, name in columns.items()},
                _fix(form),
                source.columns.licence,
                {part: name for part, name in optional.items() if name is not None},
                _TYPES,
                as_json=form != "text",
            )
    there = sorted({name for fields in found for name in fields})
    raise UserError(
        f"{where}: the columns of its first {min(len(first), FIRST)} records do not tell what they hold",
        f"there are: {', '.join(there[:12]) or 'none'}",
        _fix(chosen) if chosen else f"{_fix('chat')}, or {{prompt: NAME, response: NAME}}, or {{text: NAME}}",
    )


def _fix(form: SampleFormat) -> str:
    return f"name them in the source's columns: {{{', '.join(f'{part}: NAME' for part in _PARTS[form])}}}"


def read_conversation(form: str, content: str) -> list[Message]:
    """The messages of a record, from what was taken of it (JSON of its parts, or plain text): a system message or none,
    then user and assistant in turn, the assistant last. Of plain text, one message of role :data:`PLAIN_TEXT`.

    Raises:
        RefusedRowError: empty, not_text, bad_roles or no_assistant.
    """
    if form == "text":
        return [_checked(PLAIN_TEXT, content)]
    messages = list(_messages(json.loads(content)))
    if messages and messages[0]["role"] == "system" and not messages[0]["content"].strip():
        del messages[0]  # says nothing
    for message in messages:
        _checked(message["role"], message["content"])
    _check_order([message["role"] for message in messages])
    return messages


def _messages(parts: Mapping[str, Any]) -> Iterator[Message]:
    if "system" in parts:
        yield from _turns(parts["system"], "system")
    if "messages" in parts:
        yield from _turns(parts["messages"], "")
        return
    prompt, more = parts["prompt"], parts.get("input")
    if isinstance(prompt, str) and isinstance(more, str) and more.strip():
        prompt = f"{prompt}\n{more}"  # as LLaMA-Factory joins Alpaca's
    yield from _turns(prompt, "user")
    yield from _turns(parts["response"], "assistant")


def _turns(value: Any, role: str) -> Iterator[Message]:
    """Messages of a text in this role, or of a list that says who spoke."""
    if isinstance(value, str):
        yield {"role": role, "content": value}
        return
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, dict):
            raise RefusedRowError("not_text", f"turn {number} is of type {type(turn).__name__}")
        said_by, text = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if not isinstance(said_by, str) or said_by.lower() not in _ROLES:
            raise RefusedRowError("bad_roles", f"turn {number} is by {str(said_by)[:40]!r}")
        if not isinstance(text, str):
            raise RefusedRowError("not_text", f"turn {number} holds a value of type {type(text).__name__}")
        yield {"role": _ROLES[said_by.lower()], "content": text}


def _checked(role: str, text: str) -> Message:
    if not text.strip():
        raise RefusedRowError("empty", f"nothing is said by {role}")
    if "\0" in text:
        raise RefusedRowError("not_text", f"character {text.index(chr(0)) + 1} by {role} is a null")
    return {"role": role, "content": text}


def _check_order(roles: Sequence[str]) -> None:
    if not roles:
        raise RefusedRowError("empty", "no message")
    if "assistant" not in roles:
        raise RefusedRowError("no_assistant", " ".join(roles)[:200])
    turns = roles[1:] if roles[0] == "system" else roles
    alternate = all({first, second} == {"user", "assistant"} for first, second in pairwise(turns))
    if not alternate or turns[0] != "user" or turns[-1] != "assistant":
        raise RefusedRowError("bad_roles", " ".join(roles)[:200])


def normalised(messages: Iterable[Mapping[str, str]]) -> list[str]:
    """What is compared to find equal samples: roles and texts, white space at the ends of lines and texts aside."""
    parts: list[str] = []
    for message in messages:
        lines = message["content"].strip().splitlines()
        parts += [message["role"], "\n".join(line.rstrip() for line in lines)]
    return parts
