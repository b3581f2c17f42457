"""Progress of a build, read from the run folder: what is published, the rate, the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from codeio_hpc.launch.plan import Step
from codeio_hpc.tables.index import names_in
from codeio_hpc.tables.shards import part_path, read_footer, shard_of


def clock(seconds: float) -> str:
    """Seconds as people read them: 0:42, 12:03, 3:05:10."""
    total = max(0, round(seconds))
    hours, rest = divmod(total, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


@dataclass
class Published:
    """What a step has published; a shard once counted is not looked at again."""

    step: Step
    shards: list[int]
    done: set[tuple[int, int]] = field(default_factory=set)
    rows: int = 0

    def __post_init__(self) -> None:
        self._wanted = set(self.shards)

    @property
    def total(self) -> int:
        """Parts: one shard through one stage each."""
        return len(self.shards) * len(self.step.places)

    def update(self) -> None:
        """Look for what has been published since: names first, and footers of what is new."""
        kind = "sketch" if self.step.kind == "sketch" else "part"
        for number, place in enumerate(self.step.places):
            present = {shard_of(name, kind) for name in names_in(place.folder)}
            for shard in self._wanted & present:
                if (number, shard) in self.done:
                    continue
                if self.step.kind == "sketch":
                    self.done.add((number, shard))
                elif footer := read_footer(part_path(place.folder, shard)):
                    self.done.add((number, shard))
                    self.rows += footer.rows


class Progress:
    """Shows one line for a step: rewritten in a terminal, a new line every ten seconds elsewhere."""

    def __init__(self, step: Step, shards: list[int], stream: TextIO = sys.stderr, quiet: bool = False) -> None:
        self._published = Published(step, shards)
        self._published.update()
        self._already = len(self._published.done)
        self._rows_before = self._published.rows
        self._stream = stream
        self._quiet = quiet
        self._terminal = stream.isatty()
        self._started = time.monotonic()
        self._last_line = self._started

    @property
    def parts_done(self) -> int:
        """How many parts are published, as of the last look."""
        return len(self._published.done)

    @property
    def is_full(self) -> bool:
        """Whether that is all of them; what is there by its name may still be damaged."""
        return self.parts_done == self._published.total

    def show(self) -> None:
        """Look at the folder and tell."""
        self._published.update()
        now = time.monotonic()
        if self._quiet or (not self._terminal and now - self._last_line < 10):
            return
        self._last_line = now
        text = self.line(now - self._started)
        self._stream.write(f"\r\x1b[2K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()

    def line(self, elapsed: float) -> str:
        """The progress after ``elapsed`` seconds."""
        published = self._published
        done, total = len(published.done), published.total
        new = done - self._already
        rate = (published.rows - self._rows_before) / elapsed if elapsed > 0 else 0.0
        left = clock((total - done) * elapsed / new) if new else "?"
        share = 100 * done // total if total else 100
        return f"{published.step.name}: {done}/{total} parts ({share} %), {rate:,.0f} rows/s, {left} left"

    def close(self) -> None:
        """Clear the line."""
        if self._terminal and not self._quiet:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()


class Tally:
    """Says how far something has come, every so often, once it takes longer than five seconds.

    Args:
        what: what is being done.
        unit: what is counted.
        total: how many there will be, if that is known.
    """

    def __init__(
        self, what: str, unit: str, total: int | None = None, stream: TextIO = sys.stderr, quiet: bool = False
    ) -> None:
        self._what, self._unit, self._total = what, unit, total
        self._stream, self._quiet = stream, quiet
        self._started = self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        """So many are done."""
        now = time.monotonic()
        pause = 0.5 if self._stream.isatty() else 10
        if self._quiet or now - self._started < 5 or now - self._last < pause:
            return
        self._last = now
        text = self._line(done, now - self._started)
        self._stream.write(f"\r\x1b[2K{text}" if self._stream.isatty() else f"{text}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._stream.write(f"\r\x1b[2K{text}\n" if self._stream.isatty() else f"{text}\n")
            self._stream.flush()

    def _line(self, done: int, elapsed: float) -> str:
        rate = f"{done / elapsed:,.0f}/s"
        if self._total is None or not done:
            return f"{self._what}: {done:,} {self._unit}, {rate}"
        left = clock((self._total - done) * elapsed / done)
        return f"{self._what}: {done:,} of {self._total:,} {self._unit}, {rate}, {left} left"


def wait(finished: Callable[[], bool], progress: Progress, poll: float = 0.2) -> None:
    """Show progress until ``finished()``."""
    pause = poll / 10
    while not finished():
        progress.show()
        time.sleep(pause)
        pause = min(poll, pause * 1.5)
