"""tokenise: samples to tokens with a loss mask, packed into sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

from codeio_hpc.config import RunConfig
from codeio_hpc.config.recipe import recipe_of, sequence_tokens
from codeio_hpc.config.tokenizer import tokenizer_fingerprint, tokenizer_folder
from codeio_hpc.stages.base import Context, MapStage, Rejection
from codeio_hpc.stages.packing import best_fit
from codeio_hpc.tables import Row, Table
from codeio_hpc.tables.schemas import SAMPLES, SEQUENCES


class TemplateError(Exception):
    """The chat template renders a sample in a way that its parts cannot be told apart."""


@dataclass(frozen=True)
class Document:
    """One tokenised sample."""

    sample_id: str
    language: str
    input_ids: list[int]
    trained: list[bool]
    difficulty: float


class Tokenise(MapStage):
    """Tokens come from one rendering of the chat template; which of them are trained is told by character spans.

    The model learns the assistant's text and the end-of-sequence token behind it (``loss_on: full``: everything but
    the first token). Samples longer than a sequence are rejected, never cut; so are samples whose text spells one of
    the tokenizer's control tokens, because the model could not tell it from a real one.
    """

    name: ClassVar[str] = "tokenise"
    version: ClassVar[int] = 3
    by_row: ClassVar[bool] = False
    input: ClassVar[Table] = SAMPLES
    output: ClassVar[Table] = SEQUENCES

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {
            "max_tokens": _max_tokens(config),
            "loss_on": config.tokenise.loss_on,
            "tokenizer": tokenizer_fingerprint(_folder(config)),
        }

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        tokenizer = load_tokenizer(_folder(context.config))
        control = control_tokens(tokenizer)
        max_tokens = _max_tokens(context.config)
        full = context.config.tokenise.loss_on == "full"
        documents: dict[str, list[Document]] = {}
        for row in rows:
            spelled = _spelled(row, control)
            if spelled is not None:
                yield Rejection(row["sample_id"], "control_token", f"the text has the control token {spelled}")
                continue
            document = tokenise(row, tokenizer, full)
            context.counts["tokens"] += len(document.input_ids)
            context.counts["trained_tokens"] += sum(document.trained)
            if len(document.input_ids) > max_tokens:
                detail = f"{len(document.input_ids)} tokens, more than {max_tokens}"
                yield Rejection(row["sample_id"], "too_long", detail)
                continue
            documents.setdefault(row["training_stage"], []).append(document)
        for training_stage in sorted(documents):
            yield from _sequences(documents[training_stage], training_stage, max_tokens)


def _folder(config: RunConfig) -> Path:
    assert config.recipe is not None, "the registry leaves this stage out without a recipe"
    return tokenizer_folder(Path(config.recipe))


def _max_tokens(config: RunConfig) -> int:
    return sequence_tokens(config, recipe_of(config))


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a model folder, the way training and evaluation load it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def control_tokens(tokenizer: Any) -> list[str]:
    """The texts that the tokenizer turns into control tokens wherever they stand, also in a collected file's code."""
    return sorted(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)


def _spelled(row: Mapping[str, Any], control: Sequence[str]) -> str | None:
    """The first control token that a message of the sample spells, if any."""
    texts = [message["content"] for message in row["messages"]]
    return next((token for token in control if any(token in text for text in texts)), None)


def tokenise(row: Mapping[str, Any], tokenizer: Any, full: bool) -> Document:
    """One sample, free of control tokens in its text, as tokens and loss mask.

    Raises:
        TemplateError: the rendering of the conversation's beginning is not the beginning of its rendering, a token
            straddles the border of the assistant's text, or there is not exactly one BOS.
    """
    messages = row["messages"]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
    spans = list(_assistant_spans(messages, text, tokenizer, row["sample_id"]))
    trained = [any(start <= first and last <= end for start, end in spans) for first, last in offsets]
    for first, last in offsets:
        if any(first < border < last for span in spans for border in span):
            raise TemplateError(f"sample {row['sample_id']}: a token straddles the border of the assistant's text")
    if tokenizer.bos_token_id is not None and ids.count(tokenizer.bos_token_id) != 1:
        raise TemplateError(f"sample {row['sample_id']}: {ids.count(tokenizer.bos_token_id)} BOS tokens instead of one")
    if full:
        trained = [False, *[True] * (len(ids) - 1)]
    return Document(row["sample_id"], row["language"], list(ids), trained, row["difficulty"])


def _assistant_spans(
    messages: Sequence[Mapping[str, str]], text: str, tokenizer: Any, sample_id: str
) -> Iterator[tuple[int, int]]:
    """Character spans of what the model has to write: each assistant turn with its end-of-sequence token."""
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(messages[:number], tokenize=False, add_generation_prompt=True)
        until = tokenizer.apply_chat_template(messages[: number + 1], tokenize=False)
        if not (text.startswith(before) and text.startswith(until) and len(before) < len(until)):
            raise TemplateError(f"sample {sample_id}: the chat template does not render turn {number} in place")
        yield len(before), len(until)


def _sequences(documents: Sequence[Document], training_stage: str, max_tokens: int) -> Iterator[Row]:
    for group in best_fit([len(document.input_ids) for document in documents], max_tokens):
        packed = [documents[index] for index in group]
        sample_ids = [document.sample_id for document in packed]
        lengths = [len(document.input_ids) for document in packed]
        yield {
            "sequence_id": SEQUENCES.row_id(training_stage, *sample_ids),
            "sample_ids": sample_ids,
            "language": packed[0].language,
            "training_stage": training_stage,
            "input_ids": [token for document in packed for token in document.input_ids],
            "trained": [flag for document in packed for flag in document.trained],
            "starts": [0, *accumulate(lengths[:-1])],
            "difficulty": round(sum(document.difficulty for document in packed) / len(packed), 3),
        }
