"""The request journal: what was asked and answered, as it came in. Paid-for work survives a kill in mid-shard.

One JSON line an answer, appended by one writer. A line torn by a kill is cut off when the journal is opened again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from codeio_hpc.teachers.base import Request

_SYNC_EVERY = 100
"""Answers between two fsyncs: at most so many are paid for twice after a power cut."""


def request_key(teacher: str, sampling: Mapping[str, Any], request: Request) -> str:
    """What makes two requests the same: who is asked, how, and the whole conversation."""
    text = json.dumps([teacher, dict(sampling), request.messages], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def conversation_key(request: Request) -> str:
    """The conversation alone: a recorded answer serves whoever asks."""
    return hashlib.sha256(json.dumps(request.messages, sort_keys=True).encode()).hexdigest()


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Complete entries of a journal, oldest first."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # torn in the middle by two writers or a damaged disk: that answer is asked for again
        if isinstance(entry, dict) and isinstance(entry.get("key"), str):
            yield entry


class Journal:
    """The journal of one shard, open for looking up and appending."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[str, str] = {}
        self._file: Any = None
        self._unsynced = 0

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._answers = {entry["key"]: entry["response"] for entry in read_entries(self._path)}
        self._file = open(self._path, "ab")
        size = self._path.stat().st_size
        whole = self._path.read_bytes().rfind(b"\n") + 1 if size else 0
        if whole < size:
            os.truncate(self._path, whole)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sync()
        self._file.close()

    def get(self, key: str) -> str | None:
        """The recorded response to a request."""
        return self._answers.get(key)

    def add(self, key: str, request: Request, response: str) -> None:
        """Record a response."""
        self._answers[key] = response
        entry = {
            "key": key,
            "conversation": conversation_key(request),
            "instance_id": request.row["instance_id"],
            "turn": request.turn,
            "response": response,
        }
        self._file.write(json.dumps(entry, ensure_ascii=True, sort_keys=True).encode() + b"\n")
        self._unsynced += 1
        if self._unsynced >= _SYNC_EVERY:
            self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsynced = 0
