"""The replay teacher: answers that were recorded before, from the journals of another run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.teachers.base import NoAnswerError, Request
from codeio_hpc.teachers.journal import conversation_key, read_entries


@cache
def _recorded(path: Path) -> dict[str, str]:
    files = sorted(path.glob("**/journal-*.jsonl")) if path.is_dir() else [path]
    if not path.exists() or not files:
        raise UserError(
            f"teacher.journal {path}: no journal there",
            "the replay teacher answers from recorded journals only",
            "name a journal-NNNNN.jsonl file, or a folder that holds some",
        )
    return {entry["conversation"]: entry["response"] for file in files for entry in read_entries(file)}


class Replay:
    """Looks conversations up; what was not recorded has no answer."""

    def __init__(self, path: Path) -> None:
        self._answers = _recorded(path)

    @property
    def name(self) -> str:
        """Who answers."""
        return "replay-1"

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Nothing is sampled."""
        return {}

    def answer(self, request: Request) -> str:
        """The recorded response.

        Raises:
            NoAnswerError: ``no_recorded_answer``.
        """
        response = self._answers.get(conversation_key(request))
        if response is None:
            raise NoAnswerError("no_recorded_answer", f"turn {request.turn}")
        return response
