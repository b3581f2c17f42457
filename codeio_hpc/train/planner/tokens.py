"""What will be trained on: counted in a run's tokenised shards, or assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codeio_hpc.config import RunConfig, parse
from codeio_hpc.config.recipe import Recipe, load_recipe
from codeio_hpc.config.samples import TrainingStage
from codeio_hpc.errors import UserError
from codeio_hpc.tables.manifest import read_manifest
from codeio_hpc.tables.shards import published_shards, stage_folder

PACKED = 0.998
"""Share of a sequence that is filled, where nothing is counted: what ``stages/packing.py`` makes of 20,000 lengths of a
lognormal distribution (sigma 0.6) with 300 to 1,000 tokens on average (0.9988 to 0.9976)."""
_QUANTILES = (0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Tokens:
    """The data of one training stage."""

    source: str
    """Where the figures are from, for people."""
    samples: int
    sequences: int
    tokens: int
    trained: int | None
    """Tokens that the loss counts; None: not known."""
    lengths: Mapping[str, int] | None
    """Tokens of a sample: at these quantiles, and the longest; None: not known."""

    @property
    def per_sequence(self) -> float:
        """Tokens of a packed sequence, on average."""
        return self.tokens / self.sequences


def assumed_tokens(samples: int, tokens_per_sample: float, length: int) -> Tokens:
    """So many samples of that many tokens on average, packed into sequences of ``length`` tokens.

    Raises:
        UserError: a number is not above 0, or samples are longer than sequences.
    """
    for option, value in (("--samples", samples), ("--tokens-per-sample", tokens_per_sample)):
        if value <= 0:
            raise UserError(f"{option} {value:g}", "there is nothing to train on", "give a number above 0")
    if tokens_per_sample > length:
        found = f"--tokens-per-sample {tokens_per_sample:g}"
        raise UserError(found, f"sequences have {length:,} tokens at most", "longer samples are rejected, not cut")
    tokens = round(samples * tokens_per_sample)
    sequences = min(samples, max(1, round(tokens / (PACKED * length))))
    source = f"assumed: {samples:,} samples of {tokens_per_sample:g} tokens, sequences {PACKED:.1%} full"
    return Tokens(source, samples, sequences, tokens, None, None)


def counted_tokens(run: Path, recipe: Recipe, stage: TrainingStage) -> Tokens | None:
    """What a run has for that stage; None if it has nothing.

    Raises:
        UserError: it is no run, or its samples are not all tokenised, or a shard is damaged.
    """
    import numpy as np

    from codeio_hpc.train.data import read_parts

    manifest = read_manifest(run)
    if manifest is None:
        raise UserError(f"{run}: no run.json", "this is not a run folder", "give a folder that codeio build made")
    tokenised = len(published_shards(stage_folder(run / "stages", "tokenise")))
    if tokenised < manifest.shards:
        found = f"{run}: {tokenised} of {manifest.shards} shards are tokenised"
        fix = f"codeio resume {run}; or assume --samples and --tokens-per-sample"
        raise UserError(found, "tokens are counted there", fix)
    lengths, sequences, trained = [np.zeros(0, np.int64)], 0, 0
    for part in read_parts(run, stage):
        begins = np.cumsum(part["lengths"]) - part["lengths"]
        starts = np.repeat(begins, part["documents"]) + part["starts"]
        lengths.append(np.diff(np.append(starts, part["lengths"].sum())))
        sequences += len(part["lengths"])
        trained += int(part["trained"].sum())
    samples = np.concatenate(lengths)
    if not len(samples):
        return None
    quantiles = {f"{share:.0%}": int(np.quantile(samples, share, method="lower")) for share in _QUANTILES}
    quantiles["longest"] = int(samples.max())
    source = _source(run, manifest.config, recipe)
    return Tokens(source, len(samples), sequences, int(samples.sum()), trained, quantiles)


def _source(run: Path, config: Mapping[str, object], recipe: Recipe) -> str:
    tokenised_for = parse(RunConfig, config, f"{run}/run.json").recipe
    try:
        name = load_recipe(Path(str(tokenised_for))).name
    except UserError:  # the run has moved to another machine; its tokens are what they are
        name = Path(str(tokenised_for)).stem
    other = "" if name == recipe.name else f", with the tokenizer of recipe {name}: another one makes other tokens"
    return f"counted in {run}{other}"
