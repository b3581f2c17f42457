"""Packed sequences of a run as flat memory-mapped arrays, and the order in which they are trained."""

from __future__ import annotations

import os
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codeio_hpc.config import RunConfig, settings_hash
from codeio_hpc.config.recipe import StageRecipe
from codeio_hpc.config.tokenizer import FILES, tokenizer_folder
from codeio_hpc.errors import UserError
from codeio_hpc.stages.tokenise import Tokenise
from codeio_hpc.tables.shards import (
    DamagedShardError,
    part_path,
    published_shards,
    read_footer,
    read_table,
    stage_folder,
)
from codeio_hpc.train.counting import plural
from codeio_hpc.train.schedule import learning_rate

Array = np.ndarray[Any, Any]
_COLUMNS = ["training_stage", "input_ids", "trained", "starts", "difficulty"]

_INDEX = ("lengths", "starts", "documents", "trained", "difficulty")
"""Arrays that are small enough to be held in memory."""


def data_fingerprint(run: Path, shards: int, config: RunConfig) -> str:
    """What identifies the tokenised data of a run of so many shards; reads footers only.

    Raises:
        UserError: shards are missing, or were made with other settings or another tokenizer.
    """
    folder = stage_folder(run / "stages", "tokenise")
    stage = Tokenise()
    settings = settings_hash([config.seed, stage.name, dict(stage.settings(config))])
    parts = [part_path(folder, shard) for shard in range(shards)]
    footers = {part: read_footer(part) for part in parts}
    fitting = {
        part: f.checksum
        for part, f in footers.items()
        if f and f.settings == settings and f.stage_version == stage.version
    }
    if len(fitting) != shards or not set(published_shards(folder)) <= set(range(shards)):
        others = [part for part, footer in footers.items() if footer and part not in fitting]
        missing = [part for part in parts if not part.exists()]
        damaged = [part for part, footer in footers.items() if footer is None and part not in missing]
        raise UserError(
            _not_tokenised(run, shards, missing, damaged, others, config),
            "training needs all shards as this recipe makes them",
            f"codeio resume {run}",
        )
    return settings_hash([fitting[part] for part in parts])


def _not_tokenised(
    run: Path, shards: int, missing: list[Path], damaged: list[Path], others: list[Path], config: RunConfig
) -> str:
    """What is wrong with the shards of tokens, in words."""
    found = []
    if missing:
        found.append(f"{len(missing):,} of {shards:,} shards are not tokenised yet")
    if damaged:
        found.append(f"{damaged[0]} is cut or damaged" + (f", and {len(damaged) - 1:,} others" if damaged[1:] else ""))
    if others:
        made = min(part.stat().st_mtime for part in others)
        recipe = Path(str(config.recipe))
        files = [recipe, *(tokenizer_folder(recipe) / name for name in FILES)]
        changed = [str(file) for file in files if file.exists() and file.stat().st_mtime > made]
        what = "another tokenizer, chat template or sequence length, or by another version of codeio"
        since = f"changed since: {', '.join(changed) or 'no file'}"
        found.append(f"{len(others):,} of {shards:,} shards were tokenised with {what} ({since})")
    return f"{run}: {'; '.join(found) or 'there are more shards than the run has'}"


def has_samples(run: Path, stage: str) -> bool:
    """Whether anything is for that training stage; reads one column.

    Raises:
        UserError: a shard is damaged.
    """
    folder = stage_folder(run / "stages", "tokenise")
    for path in (part_path(folder, shard) for shard in published_shards(folder)):
        column = read_columns(run, path, ["training_stage"])["training_stage"]
        if pc.any(pc.equal(column, stage)).as_py():
            return True
    return False


def samples_by_stage(run: Path) -> dict[str, int]:
    """How many samples there are for each training stage that has any; reads two columns.

    Raises:
        UserError: a shard is damaged.
    """
    folder = stage_folder(run / "stages", "tokenise")
    counts: Counter[str] = Counter()
    for shard in published_shards(folder):
        table = read_columns(run, part_path(folder, shard), ["training_stage", "starts"])
        lengths = pc.list_value_length(table["starts"]).to_pylist()
        for stage, count in zip(table["training_stage"].to_pylist(), lengths, strict=True):
            counts[stage] += count
    return dict(sorted(counts.items()))


def read_columns(run: Path, path: Path, names: list[str]) -> pa.Table:
    """Some columns of a shard of tokens, of which the tokens themselves are most of the bytes.

    Raises:
        UserError: the shard is damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.read(names, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, run, error) from None


def _damaged(path: Path, run: Path, error: Exception) -> UserError:
    fix = f"remove {path}, then: codeio resume {run}"
    return UserError(str(error), "a model would learn from damaged data", fix)


@dataclass(frozen=True)
class Corpus:
    """All sequences of one training stage, end to end."""

    tokens: Array
    """int32 [all tokens]"""
    targets: Array
    """bool [all tokens]: the loss counts this token. Never a document's first: nothing comes before it."""
    offsets: Array
    """int64 [sequences + 1] into ``tokens``"""
    starts: Array
    """int32 [all documents]: first token of each, counted from its sequence's first"""
    start_offsets: Array
    """int64 [sequences + 1] into ``starts``"""
    trained: Array
    """int64 [sequences]: tokens that the loss counts"""
    difficulty: Array
    """float64 [sequences]: mean estimate of the samples'"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def documents(self) -> Array:
        """Samples of each sequence, int64 [sequences]."""
        return np.diff(self.start_offsets)

    def lengths(self) -> Array:
        """Tokens of each sequence, int64 [sequences]."""
        return np.diff(self.offsets)


def corpus_folder(run: Path, stage: str, fingerprint: str) -> Path:
    """Where the arrays of one training stage lie, once its training was begun."""
    return run / "train" / stage / f"data-{fingerprint[:16]}"


def write_corpus(run: Path, stage: str, fingerprint: str) -> Path:
    """The folder with the arrays of one training stage; written if it is not there yet, seen whole or not at all."""
    folder = corpus_folder(run, stage, fingerprint)
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f".{folder.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    index: dict[str, list[Array]] = {name: [] for name in _INDEX}
    with open(temporary / "tokens.i32", "wb") as tokens, open(temporary / "targets.u8", "wb") as targets:
        for part in read_parts(run, stage):
            part.pop("tokens").astype("<i4").tofile(tokens)
            part.pop("targets").astype("u1").tofile(targets)
            for name, values in part.items():
                index[name].append(values)
    arrays = {name: np.concatenate(parts or [np.zeros(0, np.int64)]) for name, parts in index.items()}
    np.savez(temporary / "index.npz", allow_pickle=False, **arrays)
    os.replace(temporary, folder)
    return folder


def read_parts(run: Path, stage: str) -> Iterator[dict[str, Array]]:
    """The sequences of one training stage, shard by shard: "tokens", "targets" and what :data:`_INDEX` names.

    Raises:
        UserError: a shard is damaged.
    """
    folder = stage_folder(run / "stages", "tokenise")
    for shard in published_shards(folder):
        try:
            table = read_table(part_path(folder, shard)).select(_COLUMNS)
        except DamagedShardError as error:
            raise _damaged(part_path(folder, shard), run, error) from None
        table = table.filter(pc.equal(table["training_stage"], stage)).combine_chunks()
        if table.num_rows:
            yield _flatten(table)


def _flatten(table: pa.Table) -> dict[str, Array]:
    lengths = pc.list_value_length(table["input_ids"]).to_numpy().astype(np.int64)
    documents = pc.list_value_length(table["starts"]).to_numpy().astype(np.int64)
    starts = _values(table["starts"]).astype(np.int32)
    targets = _values(table["trained"]).astype(bool)
    begins = np.cumsum(lengths) - lengths
    targets[np.repeat(begins, documents) + starts] = False
    trained = np.add.reduceat(targets.astype(np.int64), begins)
    return {
        "tokens": _values(table["input_ids"]),
        "targets": targets,
        "lengths": lengths,
        "starts": starts,
        "documents": documents,
        "trained": trained,
        "difficulty": table["difficulty"].to_numpy(),
    }


def _values(column: pa.ChunkedArray) -> Array:
    values: Array = np.array(pc.list_flatten(column).to_numpy())
    return values


def open_corpus(folder: Path) -> Corpus:
    """Map the arrays that :func:`write_corpus` wrote."""
    with np.load(folder / "index.npz") as index:
        lengths, starts, documents, trained, difficulty = (index[name] for name in _INDEX)
    if not len(lengths):
        nothing = np.zeros(0, np.int32)
        return Corpus(nothing, nothing.astype(bool), _ends(lengths), starts, _ends(documents), trained, difficulty)
    tokens = np.memmap(folder / "tokens.i32", "<i4", "r")
    targets = np.memmap(folder / "targets.u8", "u1", "r").view(bool)
    return Corpus(tokens, targets, _ends(lengths), starts, _ends(documents), trained, difficulty)


def _ends(sizes: Array) -> Array:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


class Batches:
    """The global batches of a training: batch k is a pure function of (seed, k), at any number of ranks.

    Every epoch goes through all sequences once, in an order of its own; with ``difficulty`` the first epoch goes from
    the easiest to the hardest. ``sizes`` counts what the batch size counts (samples, or 1 for each packed sequence);
    batches are cut where their running total passes a multiple of it.
    """

    def __init__(self, sizes: Array, batch_size: int, seed: int, difficulty: Array | None = None) -> None:
        """``sizes`` [sequences]; ``difficulty`` likewise."""
        self._sizes = sizes
        self._difficulty = difficulty
        self._batch_size = batch_size
        self._seed = seed
        self.per_epoch = min(len(sizes), -(-int(sizes.sum()) // batch_size))
        self._epoch = lru_cache(maxsize=1)(self._make_epoch)

    def batch(self, step: int) -> Array:
        """Sequence numbers of the 0-based batch, never empty."""
        epoch, number = divmod(step, self.per_epoch)
        order, borders = self._epoch(epoch)
        chosen: Array = order[borders[number] : borders[number + 1]]
        return chosen

    def steps_of(self, index: int, steps: int) -> list[int]:
        """The 0-based steps, of so many, whose batch has the sequence at this place of ``sizes``."""
        found = []
        for epoch in range(-(-steps // self.per_epoch)):
            order, borders = self._epoch(epoch)
            place = int(np.flatnonzero(order == index)[0])
            found.append(epoch * self.per_epoch + bisect_right(borders, place) - 1)
        return [step for step in found if step < steps]

    def _make_epoch(self, epoch: int) -> tuple[Array, list[int]]:
        chance = np.random.RandomState(_words([self._seed, "order", epoch]))  # its stream is frozen, default_rng's not
        order = chance.permutation(len(self._sizes))
        if self._difficulty is not None and epoch == 0:
            order = order[np.argsort(self._difficulty[order], kind="stable")]
        before = np.cumsum(self._sizes[order]) - self._sizes[order]
        borders = [0]
        for number in range(1, self.per_epoch):
            cut = int(np.searchsorted(before, number * self._batch_size))
            latest = len(order) - (self.per_epoch - number)  # leave a sequence for each batch to come
            borders.append(min(max(cut, borders[-1] + 1), latest))
        return order, [*borders, len(order)]


@dataclass(frozen=True)
class Order:
    """What is trained when, in one stage: a pure function of recipe, data and seed."""

    trained: Array
    """Numbers of the sequences that are trained, ascending."""
    validated: Array
    """Of those that are never trained."""
    batches: Batches
    """Of places in ``trained``."""
    steps: int
    """Optimiser steps in all."""

    def batch(self, step: int) -> Array:
        """Sequence numbers of the 0-based step."""
        numbers: Array = self.trained[self.batches.batch(step)]
        return numbers


def order_of(corpus: Corpus, stage: StageRecipe, seed: int) -> Order:
    """The order in which a stage goes through its data."""
    trained, validated = split_validation(len(corpus), stage.validation_fraction, seed)
    sizes = corpus.documents() if stage.batch_unit == "samples" else np.ones(len(corpus), np.int64)
    difficulty = corpus.difficulty[trained] if stage.order == "curriculum" else None
    batches = Batches(sizes[trained], stage.batch_size, seed, difficulty)
    return Order(trained, validated, batches, stage.steps or batches.per_epoch * (stage.epochs or 1))


def split_validation(count: int, fraction: float, seed: int) -> tuple[Array, Array]:
    """Numbers of the sequences that are trained, and of those that are kept for validation, each ascending.

    A pure function of its arguments. With a fraction above 0 there is at least one of each, if there are two.
    """
    chance = np.random.RandomState(_words([seed, "validation"]))
    kept = min(max(1, round(count * fraction)), count - 1) if fraction else 0
    order = chance.permutation(count)
    return np.sort(order[kept:]), np.sort(order[:kept])


def _words(parts: list[object]) -> list[int]:
    """Eight words of 32 bits that seed numpy's generator."""
    digest = settings_hash(parts)
    return [int(digest[i : i + 8], 16) for i in range(0, 64, 8)]


def micro_batches(batch: Array, rank: int, ranks: int, size: int) -> list[Array]:
    """What one data-parallel rank does of a global batch: as many micro-batches as every other one, the last ones maybe
    empty."""
    count = -(-len(batch) // (ranks * size))
    first = [(number * ranks + rank) * size for number in range(count)]
    return [batch[start : start + size] for start in first]


def cautions(order: Order, stage: StageRecipe, ranks: int) -> list[str]:
    """What is allowed, but hardly meant, for people: a warm-up that does not end, ranks without work."""
    found = []
    if order.steps < stage.warmup_steps:
        highest = learning_rate(stage, order.steps - 1, order.steps)
        found.append(
            f"WARNING: {plural(order.steps, 'step')} of {stage.warmup_steps:,} of warm-up: the learning rate gets to "
            f"{highest:.3g}, never to {stage.lr:.3g}; a smaller batch_size makes more steps"
        )
    sequences = len(order.batch(0))
    idle = ranks - -(-sequences // stage.micro_batch)
    if idle > 0:
        found.append(
            f"WARNING: {plural(idle, 'rank')} of {ranks:,} without work: the first batch has "
            f"{plural(sequences, 'sequence')}, in micro-batches of {stage.micro_batch:,}; take fewer ranks"
        )
    return found


def describe(corpus: Corpus, capacity: int) -> str:
    """One line on what is trained on, in samples and in packed sequences, and how full these are of the
    ``capacity`` tokens that they were packed to at most."""
    tokens, count = int(corpus.offsets[-1]), len(corpus)
    samples, trained = int(corpus.start_offsets[-1]), int(corpus.trained.sum())
    return (
        f"{plural(samples, 'sample')} in {plural(count, 'sequence')}, {tokens:,} tokens ({trained:,} trained); "
        f"{samples / count:.2f} samples a sequence, {tokens / count / capacity:.0%} full"
    )
