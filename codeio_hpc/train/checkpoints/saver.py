"""Saving: the state is copied to the host's memory while training waits, and written while it goes on."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from codeio_hpc.errors import RunFailedError
from codeio_hpc.train.checkpoints.files import Complete, checkpoint_name, clear, make_room, publish, rotate
from codeio_hpc.train.checkpoints.random import RandomState
from codeio_hpc.train.engines.base import Engine, Part
from codeio_hpc.train.meeting import Ranks

Facts = dict[str, dict[str, Any]]
"""Relative path: {"bytes", "sha256"}"""


@dataclass(frozen=True)
class Rules:
    """What of the recipe and the training concerns its checkpoints."""

    folder: Path
    identity: str
    tokenizer: str
    keep: int
    keep_every: int | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the identity is of, by name."""


class Saver:
    """Saves checkpoints of all ranks, one at a time. All ranks make the same calls in the same order.

    A save that fails (the disk is full, say) is an alarm on stderr; the last checkpoint stays, and training goes on.
    """

    def __init__(
        self, rules: Rules, engine: Engine, ranks: Ranks, published: Callable[[int], None] = lambda step: None
    ) -> None:
        """``published`` is called with the step of each checkpoint that is published."""
        self._on_publish = published
        self._rules, self._engine, self._ranks = rules, engine, ranks
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[Facts] | None = None
        self._complete: Complete | None = None
        self.saved: int | None = None
        """Step of the newest checkpoint that this object published."""
        if ranks.rank == 0:
            clear(rules.folder)

    def begin(
        self, step: int, random: RandomState, samples: int, overflows: int, validation_loss: float | None
    ) -> None:
        """Copy the state after ``step`` optimiser steps and begin to write it."""
        staging = self._staging(step)
        if problem := self._first(lambda: make_room(self._rules.folder, staging, self._engine.parameter_count)):
            self._alarm(step, problem)
            return
        parts = self._engine.snapshot(staging)
        parts.append((staging / f"random-{self._ranks.rank:05d}.pt", random.write))
        self._complete = Complete(
            step=step,
            ranks=self._ranks.size,
            layout=self._engine.layout,
            identity=self._rules.identity,
            tokenizer=self._rules.tokenizer,
            samples=samples,
            overflows=overflows,
            validation_loss=validation_loss,
            files={},
            settings=dict(self._rules.settings),
        )
        self._writing = self._thread.submit(_write, parts, staging)

    @property
    def pending(self) -> bool:
        """Whether a save was begun and not finished; the same on all ranks."""
        return self._writing is not None

    @property
    def busy(self) -> bool:
        """Whether this rank still writes."""
        return self._writing is not None and not self._writing.done()

    def finish(self) -> None:
        """Wait until all ranks have written, and publish."""
        if self._writing is None or self._complete is None:
            return
        error = self._writing.exception()
        told = self._ranks.gather(str(error) if error is not None else self._writing.result())
        complete, self._writing, self._complete = self._complete, None, None
        failed = [f"rank {rank}: {each}" for rank, each in enumerate(told) if isinstance(each, str)]
        if problem := failed[0] if failed else self._first(lambda: self._publish(complete, told)):
            if self._ranks.rank == 0:  # or it takes the room of the next ones
                shutil.rmtree(self._staging(complete.step), ignore_errors=True)
            self._alarm(complete.step, problem)
            return
        self.saved = complete.step
        self._on_publish(complete.step)

    def close(self) -> None:
        """Wait for everything, and for all ranks."""
        self.finish()
        self._thread.shutdown()
        self._ranks.gather(None)

    def require(self, step: int) -> None:
        """Make sure that the checkpoint of this step was published.

        Raises:
            RunFailedError: it could not be saved; the earlier ones are there.
        """
        if self.saved != step:
            raise RunFailedError(
                f"the checkpoint of step {step} could not be saved (see above); the last one before it is whole"
            )

    def _publish(self, complete: Complete, told: list[Facts]) -> None:
        files = {name: facts for each in told for name, facts in each.items()}
        publish(self._staging(complete.step), Complete(**{**vars(complete), "files": dict(sorted(files.items()))}))
        self._thread.submit(self._rotate, complete.step)

    def _rotate(self, newest: int) -> None:
        try:
            rotate(self._rules.folder, self._rules.keep, self._rules.keep_every, newest)
        except OSError as error:
            print(f"codeio: ALARM: older checkpoints were not removed: {error}", file=sys.stderr, flush=True)

    def _first(self, work: Callable[[], str | None]) -> str | None:
        """Rank 0 calls ``work()``, which may say what is wrong; all are told that, or what the file system said."""
        problem = None
        if self._ranks.rank == 0:
            try:
                problem = work()
            except OSError as error:
                problem = str(error)
        told: str | None = self._ranks.gather(problem)[0]
        return told

    def _staging(self, step: int) -> Path:
        return self._rules.folder / f".{checkpoint_name(step)}.staging"

    def _alarm(self, step: int, problem: str) -> None:
        if self._ranks.rank == 0:
            text = f"codeio: ALARM: the checkpoint of step {step} was not saved: {problem}; the last one stays"
            print(text, file=sys.stderr, flush=True)


def _write(parts: list[Part], staging: Path) -> Facts:
    facts: Facts = {}
    while parts:  # what is written is let go of
        path, write = parts.pop()
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            hashed = _Hashed(file)
            write(hashed)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        facts[str(path.relative_to(staging))] = {"bytes": hashed.bytes, "sha256": hashed.digest.hexdigest()}
    return facts


class _Hashed:
    """A file to write to that knows the hash of what was meant to be written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.bytes += memoryview(data).nbytes
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
