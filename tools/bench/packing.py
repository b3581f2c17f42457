"""How full packed sequences are, and what packing and tokenising cost, beside the usual loops.

    python tools/bench/packing.py [--samples 1000 10000 100000] [--capacity 4096] [--tokenise 2000] [--tokenizer FOLDER]

The first table packs lengths like those of CodeI/O samples (lognormal, mean about 900 tokens, none above the capacity);
of small shards, as many as make 10,000 samples:

  best fit            ours
  first fit           each document, as it comes, into the first sequence with room: the usual loop, quadratic
  next fit            as it comes, a new sequence where it does not fit: what filling a buffer does
  concatenation       end to end, cut where a sequence is full: nothing is left unused, and samples are cut

The second tokenises samples of such lengths (code of the standard library in two messages) and packs them, by the
stage, and by the loop of most training scripts: two renderings a sample, tokens before the answer masked by the length
of the prompt's, first fit. CPU seconds of the process, its threads included; one core unless the tokenizer uses more.
"""

from __future__ import annotations

import argparse
import os
import random
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from codeio_hpc.config.run import RunConfig
from codeio_hpc.stages.base import Context
from codeio_hpc.stages.encoding import load_tokenizer
from codeio_hpc.stages.packing import best_fit
from codeio_hpc.stages.tokenise import Tokenise
from codeio_hpc.tables.schemas import SAMPLES, SEQUENCES
from codeio_hpc.tables.shards import to_arrow

MODELS = Path(__file__).parents[2] / "configs" / "models"
MEAN, SIGMA = 6.6, 0.65
"""Of the logarithm of a length: 908 tokens on average, 3,700 or more in one of a hundred."""
LOOPS = 10_000
"""Samples beyond which the quadratic loop is left out."""

Groups = list[list[int]]


def some_lengths(count: int, capacity: int, seed: int = 0) -> list[int]:
    """Lengths of samples; those that do not fit are drawn again, as they would have been rejected."""
    chance = random.Random(seed)
    lengths: list[int] = []
    while len(lengths) < count:
        length = max(20, int(chance.lognormvariate(MEAN, SIGMA)))
        if length <= capacity:
            lengths.append(length)
    return lengths


def first_fit(lengths: Sequence[int], capacity: int) -> Groups:
    groups: Groups = []
    rooms: list[int] = []
    for index, length in enumerate(lengths):
        for group, room in enumerate(rooms):
            if room >= length:
                groups[group].append(index)
                rooms[group] -= length
                break
        else:
            groups.append([index])
            rooms.append(capacity - length)
    return groups


def next_fit(lengths: Sequence[int], capacity: int) -> Groups:
    groups: Groups = []
    room = 0
    for index, length in enumerate(lengths):
        if length > room:
            groups.append([])
            room = capacity
        groups[-1].append(index)
        room -= length
    return groups


def cut_by_concatenation(lengths: Sequence[int], capacity: int) -> float:
    """Share of the samples that a border of sequences goes through."""
    at, cut = 0, 0
    for length in lengths:
        cut += at // capacity != (at + length - 1) // capacity
        at += length
    return cut / len(lengths)


def measured(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a piece of work, and CPU seconds of the process."""
    before = time.process_time()
    result = work()
    return result, time.process_time() - before


def pack(counts: Sequence[int], capacity: int) -> None:
    print(f"| samples a shard | way | full, of {capacity:,} | sequences | samples/s | samples cut |")
    print("|---:|---|---:|---:|---:|---:|")
    ways = {"best fit": best_fit, "first fit": first_fit, "next fit": next_fit}
    for count in counts:
        shards = [some_lengths(count, capacity, seed) for seed in range(max(1, LOOPS // count))]
        samples = count * len(shards)
        for name, way in ways.items():
            if name == "first fit" and count > LOOPS:
                continue
            made, seconds = measured(lambda way=way, shards=shards: [way(lengths, capacity) for lengths in shards])
            sequences = sum(map(len, made))
            full = sum(map(sum, shards)) / (sequences * capacity)
            print(f"| {count:,} | {name} | {full:.2%} | {sequences:,} | {samples / max(seconds, 1e-6):,.0f} | none |")
        print(f"| {count:,} | concatenation | 100.00% | | | {cut_by_concatenation(shards[0], capacity):.1%} |")


def some_samples(count: int, capacity: int, tokenizer: Any) -> list[dict[str, Any]]:
    """Samples of two messages, of about such lengths, from the code of the standard library."""
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:60]
    text = "".join(path.read_text(encoding="utf-8", errors="ignore") for path in library)
    for token in tokenizer.added_tokens_decoder.values():
        text = text.replace(token.content, "")
    characters = len(text[:200_000]) / len(tokenizer(text[:200_000], verbose=False)["input_ids"])
    chance = random.Random(1)
    rows = []
    for number, length in enumerate(some_lengths(count, capacity - 60)):
        size = int(length * characters * 0.95)
        start = chance.randrange(len(text) - size)
        prompt, answer = text[start : start + size // 2], text[start + size // 2 : start + size]
        row: dict[str, Any] = dict.fromkeys(SAMPLES.schema.names)
        messages = [{"role": "user", "content": f"Q{prompt}."}, {"role": "assistant", "content": f"A{answer}."}]
        facts = {"language": "text", "training_stage": "stage1", "difficulty": 1.0, "repeats": 1}
        rows.append(row | facts | {"sample_id": f"s{number}", "messages": messages})
    return rows


def by_loop(rows: Sequence[dict[str, Any]], tokenizer: Any, capacity: int) -> list[dict[str, Any]]:
    documents = []
    for row in rows:
        messages = row["messages"]
        prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        masked = len(tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(whole, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) <= capacity:
            documents.append((ids, [place >= masked for place in range(len(ids))]))
    sequences = []
    for group in first_fit([len(ids) for ids, _ in documents], capacity):
        ids = [token for index in group for token in documents[index][0]]
        trained = [flag for index in group for flag in documents[index][1]]
        sequences.append({"input_ids": ids, "trained": trained})
    return sequences


def tokenise(count: int, capacity: int, folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    rows = some_samples(count, capacity, tokenizer)
    by_loop(rows[:20], tokenizer, capacity)  # templates are compiled, and libraries loaded, at first use
    to_arrow(SEQUENCES, [])
    print(f"\n| way | samples | tokens | full | samples/s | tokens/s | ({folder.name}, {len(tokenizer):,} tokens)")
    print("|---|---:|---:|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as place:
        made, seconds = measured(lambda: by_stage(rows, capacity, folder, Path(place) / "recipe.yaml"))
    show("stage", count, made, seconds, capacity)
    _, written = measured(lambda: to_arrow(SEQUENCES, made))
    show("stage, as an Arrow table", count, made, seconds + written, capacity)
    looped, seconds = measured(lambda: by_loop(rows, tokenizer, capacity))
    show("loop", count, looped, seconds, capacity)


def by_stage(rows: Sequence[dict[str, Any]], capacity: int, folder: Path, recipe: Path) -> list[dict[str, Any]]:
    stage = {"schedule": "constant", "lr": 1e-5, "batch_size": 1, "epochs": 1}
    model = {"name": "bench", "model": str(folder.resolve()), "sequence_length": capacity, "stages": {"stage1": stage}}
    recipe.write_text(yaml.safe_dump(model), encoding="utf-8")
    config = RunConfig.model_validate({"name": "bench", "samples": [{"name": "s", "path": "."}], "recipe": str(recipe)})
    context = Context(config, "tokenise", 0, no_sandbox, Path("journal"))
    return [row for row in Tokenise().run(rows, context) if isinstance(row, dict)]


def no_sandbox(hash_seed: int) -> NoReturn:
    raise AssertionError("tokenising runs no code")


def show(way: str, samples: int, made: list[dict[str, Any]], seconds: float, capacity: int) -> None:
    tokens = sum(len(row["input_ids"]) for row in made)
    full = tokens / (capacity * len(made))
    print(f"| {way} | {samples:,} | {tokens:,} | {full:.2%} | {samples / seconds:,.0f} | {tokens / seconds:,.0f} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--capacity", type=int, default=4096)
    parser.add_argument("--tokenise", type=int, default=2_000, metavar="SAMPLES")
    parser.add_argument("--tokenizer", type=Path, default=MODELS / "tiny", metavar="FOLDER")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pack(options.samples, options.capacity)
    tokenise(options.tokenise, options.capacity, options.tokenizer)


if __name__ == "__main__":
    main()
