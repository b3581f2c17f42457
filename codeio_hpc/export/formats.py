"""What a sample looks like in each format, and which files stand beside the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from codeio_hpc.tables import Row

Document = dict[str, Any]


class UnfitSampleError(Exception):
    """A format cannot hold a sample; says what it cannot hold."""


@dataclass(frozen=True)
class Format:
    """One way to write samples."""

    meant_for: str
    data: str
    """Name of the data file; ``{split}`` and ``{part}`` are filled in."""
    write: Callable[[Row, Row | None], Document]
    """From a row of the samples and its row of the conversations (none of an imported sample) to one document.

    Raises:
        UnfitSampleError: the format has no place for it.
    """
    repeats: bool = True
    """Whether a sample that is trained several times in an epoch is written as often; else a column says so."""
    beside: Callable[[str], dict[str, str]] = lambda name: {}
    """Further files by name, given the dataset's name."""


def _columns(sample: Row, conversation: Row | None) -> Document:
    return dict(sample)


def _chat(sample: Row) -> list[dict[str, str]]:
    if sample["format"] == "text":
        raise UnfitSampleError("plain text, which is no conversation")
    messages: list[dict[str, str]] = sample["messages"]
    return messages


def _messages(sample: Row, conversation: Row | None) -> Document:
    return {"messages": _chat(sample)}


def _prompt_completion(sample: Row, conversation: Row | None) -> Document:
    return {"prompt": _chat(sample)[:-1], "completion": _chat(sample)[-1:]}


def _public(sample: Row, conversation: Row | None) -> Document:
    """The columns of the published dataset: two turns and what the execution said of them; null for a turn less."""
    if conversation is None:
        raise UnfitSampleError("samples that were not made of code in this run")
    turns = conversation["turns"]
    document: Document = {"prompt": conversation["prompt"]}
    for number in (1, 2):
        turn: Mapping[str, Any] = turns[number - 1] if len(turns) >= number else {}
        document |= {f"turn_{number}": turn.get("response"), f"feedback_{number}": turn.get("feedback")}
    return document


def _alpaca(sample: Row, conversation: Row | None) -> Document:
    messages = _chat(sample)
    if [message["role"] for message in messages] != ["user", "assistant"]:
        raise UnfitSampleError("conversations of more than a question and an answer")
    return {"instruction": messages[0]["content"], "input": "", "output": messages[1]["content"]}


_SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def _sharegpt(sample: Row, conversation: Row | None) -> Document:
    return {
        "conversations": [
            {"from": _SHAREGPT_ROLES[message["role"]], "value": message["content"]} for message in _chat(sample)
        ]
    }


def _dataset_info(name: str) -> dict[str, str]:
    """LLaMA-Factory finds a dataset by its entry in this file (its data/README.md has the keys)."""
    import json

    entry = {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations"},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
    }
    return {"dataset_info.json": json.dumps({name: entry}, indent=2) + "\n"}


def _axolotl_config(name: str) -> dict[str, str]:
    """The part of an axolotl configuration that reads these files."""
    lines = [
        "# Add to your axolotl configuration; the path is relative to where you start it.",
        "datasets:",
        "  - path: train.jsonl",
        "    ds_type: json",
        "    type: chat_template",
        "    field_messages: messages",
        "    message_property_mappings: {role: role, content: content}",
        "    roles_to_train: [assistant]",
        "    train_on_eos: turn",
    ]
    return {"axolotl.yaml": "\n".join(lines) + "\n"}


FORMATS = {
    "hf": Format(
        "datasets.load_dataset(FOLDER), with a dataset card", "data/{split}-{part:05d}.parquet", _columns, False
    ),
    "parquet": Format("anything that reads Parquet", "{split}-{part:05d}.parquet", _columns, False),
    "jsonl": Format("anything that reads JSON lines", "{split}.jsonl", _columns, False),
    "messages": Format("trainers that take chat messages", "{split}.jsonl", _messages),
    "trl": Format("TRL's SFTTrainer, the loss on the completion", "{split}.jsonl", _prompt_completion),
    "axolotl": Format("axolotl, type chat_template", "{split}.jsonl", _messages, beside=_axolotl_config),
    "llama-factory": Format("LLaMA-Factory, with dataset_info.json", "{split}.jsonl", _sharegpt, beside=_dataset_info),
    "alpaca": Format("instruction, input, output", "{split}.jsonl", _alpaca),
    "public": Format("the columns of CodeIO-PyEdu-Reasoning", "{split}.jsonl", _public),
}
"""By name, as ``codeio export --as`` takes it."""
