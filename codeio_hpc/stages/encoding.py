"""Samples as tokens: one rendering of the chat template, and which of its tokens are trained."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codeio_hpc.errors import UserError
from codeio_hpc.stages.base import Rejection
from codeio_hpc.stages.conversations import PLAIN_TEXT
from codeio_hpc.tables import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 128
"""Samples that are handed to the tokenizer together."""


class TemplateError(UserError):
    """The chat template renders a sample in a way that its parts cannot be told apart, or never ends."""

    def __init__(self, sample_id: str, problem: str) -> None:
        super().__init__(
            f"sample {sample_id}: {problem}",
            "what the model is to write would not be what is trained",
            "give the recipe's model folder a chat_template.jinja that renders every turn by itself, begins assistant"
            " turns with the generation prompt and ends them with a control token",
        )


class _StraddlingTokenError(Exception):
    """A token covers both the end of a prompt and the beginning of an answer."""


@dataclass(frozen=True)
class Document:
    """One tokenised sample."""

    sample_id: str
    language: str
    input_ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    difficulty: float


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a model folder, the way training and evaluation load it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


class Encoder:
    """Turns samples into documents.

    A conversation is rendered once. The model learns the assistant's texts, each with the control token that ends its
    turn (``last``: of the last turn only; ``full``: every token but the first). A document of plain text is BOS, if the
    tokenizer has one, the text, and EOS, all of it trained but BOS.

    Raises:
        UserError: the tokenizer has no chat template or no EOS.
    """

    def __init__(self, tokenizer: Any, loss_on: Literal["assistant", "last", "full"] = "assistant") -> None:
        self._tokenizer, self._loss_on = tokenizer, loss_on
        special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = frozenset(special)
        self._control: dict[str, list[str]] = defaultdict(list)  # by their beginnings: some tokenizers have hundreds
        for token in sorted(special.values()):
            self._control[token[:2]].append(token)
        self._bos, self._eos = tokenizer.bos_token_id, tokenizer.eos_token_id

    def encode(self, rows: Sequence[Row]) -> Iterator[Document | Rejection]:
        """The document of each sample, or why there is none, in order.

        Raises:
            TemplateError: the rendering of the conversation's beginning is not the beginning of its rendering, a token
                straddles the border of an answer (that does not begin with white space: such a one is rejected), a turn
                does not end with a control token, or there is not exactly one BOS.
        """
        remaining = iter(rows)
        while batch := list(islice(remaining, _BATCH)):
            rendered = [self._render(row) for row in batch]
            texts = [text for text in rendered if isinstance(text, str)]
            encodings = iter(self._tokenizer(texts, add_special_tokens=False, verbose=False).encodings if texts else ())
            for row, text in zip(batch, rendered, strict=True):
                yield text if isinstance(text, Rejection) else self._document(row, text, next(encodings))

    def _render(self, row: Row) -> str | Rejection:
        from jinja2 import TemplateError as Refusal

        texts = [message["content"] for message in row["messages"]]
        spelled = self._spelled(texts)
        if spelled is not None:
            return Rejection(row["sample_id"], "control_token", f"the text has the control token {spelled}")
        if _is_plain(row):
            return str(texts[0])
        try:
            return self._rendering(row["messages"])
        except Refusal as refusal:  # raise_exception of a template: no system messages, say
            if type(refusal) is not Refusal:  # a mistake in the template
                raise TemplateError(row["sample_id"], f"the chat template fails: {refusal}") from None
            return Rejection(row["sample_id"], "template", str(refusal)[:200])

    def _spelled(self, texts: Sequence[str]) -> str | None:
        """The first control token that a text spells, if any does."""
        for beginning, tokens in self._control.items():
            if any(beginning in text for text in texts):
                for token in tokens:
                    if any(token in text for text in texts):
                        return token
        return None

    def _rendering(self, messages: Sequence[Mapping[str, str]], prompt: bool = False) -> str:
        if not self._tokenizer.chat_template:
            raise UserError(
                f"{self._tokenizer.name_or_path}: no chat template",
                "conversations are rendered by it",
                "put the chat_template.jinja of the model's instruct version beside its tokenizer.json",
            )
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        return text

    def _document(self, row: Row, text: str, encoding: Any) -> Document | Rejection:
        import numpy as np

        ids: list[int] = encoding.ids
        if _is_plain(row):
            ids, trained = self._plain(ids)
        else:
            self._check_bos(row["sample_id"], ids)
            try:
                trained = self._trained(row, text, ids, encoding.offsets)
            except _StraddlingTokenError:
                if not _begins_with_a_blank(row):
                    raise TemplateError(
                        row["sample_id"], "a token straddles the border of the assistant's text"
                    ) from None
                return Rejection(row["sample_id"], "border", "an answer begins with white space")
        tokens, mask = np.array(ids, dtype=np.int32), np.array(trained, dtype=np.bool_)
        return Document(row["sample_id"], row["language"], tokens, mask, row["difficulty"])

    def _plain(self, ids: list[int]) -> tuple[list[int], list[bool]]:
        if self._eos is None:
            raise UserError(
                f"{self._tokenizer.name_or_path}: the tokenizer has no EOS token",
                "documents of plain text end with it",
                "set eos_token in its tokenizer_config.json",
            )
        begin = [] if self._bos is None else [self._bos]
        return [*begin, *ids, self._eos], [*[False] * len(begin), *[True] * (len(ids) + 1)]

    def _check_bos(self, sample_id: str, ids: list[int]) -> None:
        if self._bos is not None and self._bos != self._eos and ids.count(self._bos) != 1:
            raise TemplateError(sample_id, f"{ids.count(self._bos)} BOS tokens instead of one")

    def _trained(self, row: Row, text: str, ids: list[int], offsets: list[tuple[int, int]]) -> list[bool]:
        trained = [self._loss_on == "full"] * len(ids)
        trained[:1] = [False]
        last = len(row["messages"]) - 1
        for number, start, end in self._assistant_spans(row, text):
            first, beyond = _tokens_of(start, end, offsets)
            beyond = self._end_of_turn(row["sample_id"], number, ids, first, beyond, text, offsets)
            if self._loss_on == "assistant" or number == last:
                trained[first:beyond] = [True] * (beyond - first)
        return trained

    def _assistant_spans(self, row: Row, text: str) -> Iterator[tuple[int, int, int]]:
        """Number of the turn, and the characters of what the model has to write, with what ends it."""
        messages, sample_id = row["messages"], row["sample_id"]
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._rendering(messages[:number], prompt=True)
            until = text if number == len(messages) - 1 else self._rendering(messages[: number + 1])
            if not (text.startswith(before) and text.startswith(until) and len(before) < len(until)):
                raise TemplateError(sample_id, f"the chat template does not render turn {number} in place")
            if not text[len(before) :].lstrip().startswith(message["content"].strip()):
                raise TemplateError(sample_id, f"turn {number} does not begin behind the generation prompt")
            yield number, len(before), len(until)

    def _end_of_turn(
        self, sample_id: str, turn: int, ids: list[int], first: int, beyond: int, text: str, offsets: Any
    ) -> int:
        """Behind the control token that ends the turn; a line feed that the template puts there is not trained."""
        for place in range(beyond - 1, first - 1, -1):
            if ids[place] in self._special:
                return place + 1
            if text[offsets[place][0] : offsets[place][1]].strip():
                break
        raise TemplateError(sample_id, f"turn {turn} does not end with a control token: the model would never stop")


def _tokens_of(start: int, end: int, offsets: list[tuple[int, int]]) -> tuple[int, int]:
    """The tokens of some characters: first, and behind the last. Some tokenizers leave blanks out of offsets."""
    first, beyond = bisect_left(offsets, (start, start)), bisect_left(offsets, (end, end))
    if (first and offsets[first - 1][1] > start) or (beyond and offsets[beyond - 1][1] > end):
        raise _StraddlingTokenError
    return first, beyond


def _begins_with_a_blank(row: Row) -> bool:
    """Whether an answer does: many tokenizers join it with the line feed that ends the prompt."""
    return any(message["content"][:1].isspace() for message in row["messages"] if message["role"] == "assistant")


def _is_plain(row: Row) -> bool:
    return bool(row["messages"][0]["role"] == PLAIN_TEXT)
