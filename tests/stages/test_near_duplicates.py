"""Near-duplicates: found across shards, the first kept, at the similarity that is asked for."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from codeio_hpc.config.run import CollectSettings, RunConfig, Source
from codeio_hpc.stages.collect import Collect, list_sources
from codeio_hpc.stages.near_duplicates import HASHES, near_duplicates, sign, similarity, unpack
from tests.stages.drive import context_for, run_gather


def program(seed: int, lines: int = 60) -> list[str]:
    chance = random.Random(seed)
    names = [f"name_{chance.randrange(10**6)}" for _ in range(40)]
    return [f"{chance.choice(names)} = {chance.choice(names)} + {chance.randrange(10**6)}" for _ in range(lines)]


def test_the_estimate_is_near_the_true_similarity() -> None:
    lines = program(1, 200)
    for changed in (0, 10, 40, 100):
        other = lines[: 200 - changed] + program(2, changed)
        one, two = unpack([sign("\n".join(lines)), sign("\n".join(other))])
        runs = [_runs("\n".join(text)) for text in (lines, other)]
        true = len(runs[0] & runs[1]) / len(runs[0] | runs[1])
        assert abs(similarity(one, two) - true) < 0.12


def _runs(text: str) -> set[tuple[str, ...]]:
    tokens = text.split()
    return {tuple(tokens[at : at + 5]) for at in range(len(tokens) - 4)}


def test_layout_makes_no_difference_and_nothing_is_too_short() -> None:
    assert sign("a = 1\nb=2") == sign("a  =  1\n\n\n    b = 2")
    assert sign("") == sign(" \n") != sign("x")
    assert len(unpack([sign("x")])[0]) == HASHES


def test_the_first_is_kept_and_chains_do_not_take_distant_texts_along() -> None:
    base = np.random.default_rng(0).integers(0, 2**32, HASHES, dtype=np.uint32)
    chain = [base.copy()]
    for step in range(12):  # each differs from the one before in a tenth of its values
        following = chain[-1].copy()
        following[np.arange(step, HASHES, 10)] += 1
        chain.append(following)
    found = near_duplicates(np.array(chain), 0.85)
    kept = [place for place in range(len(chain)) if place not in found]
    assert kept[0] == 0 and len(kept) > 3
    for text, (other, alike) in found.items():
        assert other in kept and other < text and alike >= 0.85
    assert near_duplicates(np.array(chain), 1.0) == {}


def test_a_phrase_that_thousands_share_costs_no_square() -> None:
    signatures = np.random.default_rng(0).integers(0, 2**32, (20_000, HASHES), dtype=np.uint32)
    signatures[:, :6] = 7  # one band of all is the same
    signatures[15_000] = signatures[14_999]
    assert near_duplicates(signatures, 0.85) == {15_000: (14_999, 1.0)}


def test_almost_equal_files_are_rejected_wherever_they_lie(tmp_path: Path) -> None:
    lines = program(3)
    texts = {"a": lines, "b": program(4), "c": [*lines[:-1], "last_line = 1"], "d": [*lines[:20], *program(5)]}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text("\n".join(text) + "\n")
    config = RunConfig(name="test", sources=(Source(name="here", path=str(tmp_path)),))
    sources = list(list_sources(config))
    kept, rejected = run_gather(Collect(), sources, context_for(Collect(), config))
    assert [row["path"] for row in kept] == ["a.py", "b.py", "d.py"]
    [dropped] = rejected
    assert dropped.reason == "near_duplicate"
    assert sources[0]["source_id"] in dropped.detail
    off = config.model_copy(update={"collect": CollectSettings(near_duplicates=None)})
    assert len(run_gather(Collect(), sources, context_for(Collect(), off))[0]) == 4


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_the_decision_does_not_depend_on_the_shards(tmp_path: Path, shards: int) -> None:
    for number in range(8):
        text = "\n".join([*program(number % 3, 50), f"number = {number // 3}"])
        (tmp_path / f"{number}.py").write_text(text + "\n")
    config = RunConfig(name="test", sources=(Source(name="here", path=str(tmp_path)),))
    stage, sources = Collect(), list(list_sources(config))
    context = context_for(stage, config)
    size = len(sources) // shards
    sketches = [stage.sketch(sources[start : start + size], context) for start in range(0, len(sources), size)]
    decision = stage.decide(iter(sketches), context)
    assert sorted(decision) == sorted(row["source_id"] for row in sources[3:])
