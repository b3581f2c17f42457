"""What a teacher is: whatever answers prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Message = dict[str, str]
"""{"role": "user" | "assistant", "content": text}"""


@dataclass(frozen=True)
class Request:
    """One question to a teacher."""

    row: Mapping[str, Any]
    """The instance: what the question is about. A teacher that is a language model reads the messages only."""
    messages: tuple[Message, ...]
    """The conversation so far; the last message is the user's."""
    turn: int
    """1 for the first answer, one more for each revision."""


class NoAnswerError(Exception):
    """The teacher has no answer to this request, and asking again would not help."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class Teacher(Protocol):
    """Answers requests."""

    @property
    def name(self) -> str:
        """Who answers, with its version; stored with each answer."""

    @property
    def sampling(self) -> Mapping[str, Any]:
        """All sampling parameters, stored with each answer."""

    def answer(self, request: Request) -> str:
        """The response's text.

        Raises:
            NoAnswerError: there is none and there will be none.
        """
