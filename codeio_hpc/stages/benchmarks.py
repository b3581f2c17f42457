"""Benchmark files: their items, and which texts share a run of words with them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeio_hpc.config.run import Benchmark
from codeio_hpc.errors import UserError
from codeio_hpc.tables.files import sha256

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPH}]|(?:(?![{_IDEOGRAPH}])[^\W\d_])+")
_MAX_WORDS = 1_000_000
_CHECK_COLUMNS = 12


def words(text: str) -> list[str]:
    """The words of a text: runs of letters in lower case; punctuation, digits and white space only divide them. Scripts
    that do not divide words (Chinese, Japanese) count each character."""
    return _WORD.findall(text.casefold())


@lru_cache(maxsize=_MAX_WORDS)
def _word_hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


@lru_cache(maxsize=4)
def _weights(n: int) -> list[int]:
    return [_word_hash(f"weight {place}") | 1 for place in range(n)]


def gram_hashes(text: str, n: int) -> Hashes:
    """A 64-bit hash of every run of ``n`` words, in order, shape (words - n + 1,). Two different runs agree with a
    chance of 2^-64: a million rows of 1,000 words meet ten million runs of benchmarks with one of 0.0005."""
    import numpy as np

    found = np.array([_word_hash(word) for word in words(text)], dtype=np.uint64)
    count = max(0, len(found) - n + 1)
    total = np.zeros(count, dtype=np.uint64)
    for place, weight in enumerate(_weights(n)):
        total += found[place : place + count] * np.uint64(weight)
    return total


@dataclass(frozen=True)
class Index:
    """The runs of words of all items of some benchmarks."""

    names: tuple[str, ...]
    items: tuple[int, ...]
    """Number of items of each benchmark."""
    short: tuple[int, ...]
    """Of these, items with fewer words than a run has: they can never be found."""
    n: int
    grams: Hashes
    """Ascending; one entry for each different run of each item."""
    benchmark: NDArray[np.int32]
    item: NDArray[np.int64]

    def hits(self, texts: Sequence[str]) -> set[tuple[int, int]]:
        """(benchmark, item) of every item that shares a run with one of the texts."""
        import numpy as np

        found: set[tuple[int, int]] = set()
        for text in texts:
            wanted = np.unique(gram_hashes(text, self.n))
            first, last = np.searchsorted(self.grams, wanted, "left"), np.searchsorted(self.grams, wanted, "right")
            for start, end in zip(first[last > first], last[last > first], strict=True):
                pairs = zip(self.benchmark[start:end].tolist(), self.item[start:end].tolist(), strict=True)
                found.update(pairs)
        return found


def make_index(benchmarks: Sequence[Benchmark], n: int) -> Index:
    """Read the benchmarks and index the runs of ``n`` words of their items.

    Raises:
        UserError: a file is missing, cannot be read, or holds no text.
    """
    import numpy as np

    grams, owner, number, items, short = [], [], [], [], []
    for place, benchmark in enumerate(benchmarks):
        texts = list(read_items(benchmark))
        items.append(len(texts))
        short.append(sum(len(words(text)) < n for text in texts))
        for count, text in enumerate(texts):
            found = np.unique(gram_hashes(text, n))
            grams.append(found)
            owner.append(np.full(len(found), place, dtype=np.int32))
            number.append(np.full(len(found), count, dtype=np.int64))
    joined = np.concatenate(grams or [np.zeros(0, np.uint64)])
    order = np.argsort(joined, kind="stable")
    owners = np.concatenate(owner or [np.zeros(0, np.int32)])[order]
    numbers = np.concatenate(number or [np.zeros(0, np.int64)])[order]
    names = tuple(benchmark.name for benchmark in benchmarks)
    return Index(names, tuple(items), tuple(short), n, joined[order], owners, numbers)


def fingerprint(benchmark: Benchmark) -> str:
    """SHA-256 of the benchmark's file; read again only when the file has changed.

    Raises:
        UserError: there is no such file.
    """
    path = Path(benchmark.path)
    try:
        facts = path.stat()
    except OSError as error:
        raise _unreadable(benchmark, error.strerror or str(error)) from None
    return _hash_of(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=256)
def _hash_of(path: Path, changed: int, size: int) -> str:
    return sha256(path)


def read_items(benchmark: Benchmark) -> Iterator[str]:
    """The text of every item: of the named columns, or of all that hold text, joined by line feeds.

    Raises:
        UserError: the file cannot be read, a column is missing, or no item has any text.
    """
    some = False
    try:
        for record in _records(Path(benchmark.path)):
            missing = [name for name in benchmark.columns or () if name not in record]
            if missing:
                known = ", ".join(list(map(str, record))[:_CHECK_COLUMNS])
                raise UserError(
                    f"benchmark '{benchmark.name}': an item has no column '{missing[0]}'",
                    f"its text is read from it; there are: {known}",
                    "name the right ones in the benchmark's columns, or leave them out for all texts",
                )
            values = [record[name] for name in benchmark.columns] if benchmark.columns else list(record.values())
            text = "\n".join(part for value in values for part in _texts(value))
            some = some or bool(text.strip())
            yield text
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(benchmark, str(error)) from None
    if not some:
        raise _unreadable(benchmark, "no item has any text")


def _unreadable(benchmark: Benchmark, problem: str) -> UserError:
    return UserError(
        f"benchmark '{benchmark.name}', {benchmark.path}: {problem}",
        "overlap with it cannot be looked for",
        "give a file of JSON lines (also .gz, .zst), a JSON list, CSV or Parquet",
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches(batch_size=256, use_threads=False):
            yield from batch.to_pylist()
        return
    with io.TextIOWrapper(pa.input_stream(path, compression="detect"), encoding="utf-8") as lines:
        if path.suffix == ".csv":
            yield from csv.DictReader(lines)
        elif path.suffix == ".json":
            for record in json.load(lines):
                yield _record(record)
        else:
            for line in lines:
                if line.strip():
                    yield _record(json.loads(line))


def _record(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {"text": value}
