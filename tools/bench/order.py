"""How long a resumed training looks for its place in the data, at step 1,000 as at step 1,000,000.

    python tools/bench/order.py [--sequences 100000 1000000] [--steps 1000 1000000] [--batch 512]

Three ways to the batch of a step, in a process that has just started:

  codeio      the batch is a function of seed and step: the order of its epoch is drawn, and nothing is read
  skip        torch's RandomSampler and BatchSampler are asked for all batches before it, and no data are loaded: what
              Trainer and accelerate do on resume where the samplers can be skipped
  read        as skip, and each sequence that is passed over is read from its memory map: what they do otherwise,
              without the time of a collator (at most 20,000 steps are timed; the rest is counted as being as slow)
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from codeio_hpc.train.data import Batches

LENGTH = 64
"""Tokens of a sequence that is read. Real ones are longer, and slower."""
TIMED = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sequences", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--steps", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--batch", type=int, default=512, help="sequences of a batch")
    options = parser.parse_args()
    print(f"{'sequences':>12}{'step':>12}{'codeio':>12}{'skip':>12}{'read':>12}   (seconds)")
    for count in options.sequences:
        with tempfile.TemporaryDirectory() as folder:
            data = np.memmap(Path(folder) / "tokens", "<i4", "w+", shape=(count, LENGTH))
            for step in options.steps:
                ours = seconds(lambda count=count, step=step: place(count, options.batch, step))
                skipped = passed_over(count, options.batch, step, lambda batch: None)
                read = passed_over(count, options.batch, step, lambda batch, data=data: data[batch].sum())
                print(f"{count:>12,}{step:>12,}{ours:>12.3f}{skipped:>12.3f}{read:>12.3f}", flush=True)


def place(count: int, batch: int, step: int) -> None:
    """The batch of a step, from nothing."""
    assert len(Batches(np.ones(count, np.int64), batch, 0).batch(step))


def passed_over(count: int, batch: int, step: int, take: Callable[[list[int]], object]) -> float:
    """Seconds until a sampler has come to a step."""
    timed = min(step, TIMED)

    def work() -> None:
        done = 0
        while done < timed:
            sampler = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(range(count)), batch, False)
            for numbers in itertools.islice(sampler, timed - done):
                take(numbers)
                done += 1

    return seconds(work) * step / timed


def seconds(work: Callable[[], object]) -> float:
    """The least of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
