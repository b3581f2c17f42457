"""tokenise: samples to tokens with a loss mask, packed into sequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

from codeio_hpc.config import RunConfig
from codeio_hpc.config.recipe import TRAINING_STAGES, recipe_of, sequence_tokens
from codeio_hpc.config.tokenizer import tokenizer_fingerprint, tokenizer_folder
from codeio_hpc.stages.base import Context, MapStage, Rejection
from codeio_hpc.stages.encoding import Document, Encoder, load_tokenizer
from codeio_hpc.stages.packing import best_fit
from codeio_hpc.tables import Row, Table
from codeio_hpc.tables.schemas import SAMPLES, SEQUENCES

__all__ = ["Tokenise", "load_tokenizer"]


class Tokenise(MapStage):
    """Tokens come from one rendering of the chat template; which of them are trained is told by character spans: see
    :class:`codeio_hpc.stages.encoding.Encoder`. The samples of each training stage are packed by themselves, into
    sequences of that stage's length.

    Samples longer than a sequence are rejected, never cut (too_long); so are samples whose text spells one of the
    tokenizer's control tokens, because the model could not tell it from a real one (control_token), those that the
    chat template refuses (template), and those whose answer cannot be told from the prompt by its tokens (border).
    """

    name: ClassVar[str] = "tokenise"
    version: ClassVar[int] = 4
    by_row: ClassVar[bool] = False
    input: ClassVar[Table] = SAMPLES
    output: ClassVar[Table] = SEQUENCES

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {
            "max_tokens": _max_tokens(config),
            "loss_on": config.tokenise.loss_on,
            "tokenizer": tokenizer_fingerprint(_folder(config)),
        }

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        encoder = Encoder(load_tokenizer(_folder(context.config)), context.config.tokenise.loss_on)
        max_tokens = _max_tokens(context.config)
        documents: dict[str, list[Document]] = {}
        for row, made in zip(rows, encoder.encode(rows), strict=True):
            stage = row["training_stage"]
            if isinstance(made, Rejection):
                yield made
            elif len(made.input_ids) > max_tokens[stage]:
                detail = f"{len(made.input_ids)} tokens, more than {max_tokens[stage]}"
                yield Rejection(row["sample_id"], "too_long", detail)
            else:
                documents.setdefault(stage, []).extend([made] * row["repeats"])
        for stage in sorted(documents):
            for sequence in _sequences(documents[stage], stage, max_tokens[stage]):
                context.counts.update(_counts(sequence, max_tokens[stage]))
                yield sequence


def _folder(config: RunConfig) -> Path:
    assert config.recipe is not None, "the registry leaves this stage out without a recipe"
    return tokenizer_folder(Path(config.recipe))


def _max_tokens(config: RunConfig) -> dict[str, int]:
    """Tokens of a sequence at most, by training stage."""
    recipe = recipe_of(config)
    return {stage: sequence_tokens(config, recipe, stage) for stage in TRAINING_STAGES}


def _counts(sequence: Row, max_tokens: int) -> dict[str, int]:
    """``room`` is what ``tokens`` would be if every sequence were full."""
    return {
        "documents": len(sequence["sample_ids"]),
        "tokens": len(sequence["input_ids"]),
        "trained_tokens": int(sequence["trained"].sum()),
        "room": max_tokens,
    }


def _sequences(documents: Sequence[Document], training_stage: str, max_tokens: int) -> Iterator[Row]:
    import numpy as np

    seen: Counter[str] = Counter()
    for group in best_fit([len(document.input_ids) for document in documents], max_tokens):
        packed = [documents[index] for index in group]
        sample_ids = [document.sample_id for document in packed]
        lengths = [len(document.input_ids) for document in packed]
        sequence_id = SEQUENCES.row_id(training_stage, *sample_ids)
        seen[sequence_id] += 1
        if seen[sequence_id] > 1:  # samples that are trained several times may meet again
            sequence_id = SEQUENCES.row_id(training_stage, *sample_ids, str(seen[sequence_id]))
        yield {
            "sequence_id": sequence_id,
            "sample_ids": sample_ids,
            "language": packed[0].language,
            "training_stage": training_stage,
            "input_ids": np.concatenate([document.input_ids for document in packed]),
            "trained": np.concatenate([document.trained for document in packed]),
            "starts": [0, *accumulate(lengths[:-1])],
            "difficulty": round(sum(document.difficulty for document in packed) / len(packed), 3),
        }
