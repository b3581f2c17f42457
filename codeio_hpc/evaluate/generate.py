"""Greedy answers of a Hugging Face model folder to a list of prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BATCH_TOKENS = 32_768
"""Prompts, padded, and new tokens of a batch at most. Their keys and values take 1.9 GB in Qwen2.5-Coder 7B and 12 GB
in Gemma 2 27B (bfloat16)."""


@dataclass(frozen=True)
class Reply:
    """One answer."""

    text: str
    finished: bool
    """The model ended by itself; False if it was cut off, or the prompt left no room."""


def generate(
    folder: Path, prompts: Sequence[str], max_new_tokens: int, progress: Callable[[int], None] = lambda done: None
) -> list[Reply]:
    """One greedy reply a prompt, in order; the prompt is rendered with the model's own chat template.

    Prompts of similar length share a batch, padded on the left. A prompt without room for a single token in the
    model's context gets an empty, unfinished reply.

    Raises:
        UserError: the folder's files are damaged, or do not hold all of the model.
    """
    import torch
    from transformers import AutoTokenizer

    from codeio_hpc.train.models import quieten
    from codeio_hpc.train.reading import check_files, read_weights

    quieten()
    check_files(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = read_weights(folder).eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    ids = [_prompt_ids(tokenizer, prompt) for prompt in prompts]
    room = int(model.config.max_position_embeddings) - 1
    replies = [Reply("", False)] * len(prompts)
    done = 0
    for batch in _batches([number for number in range(len(ids)) if len(ids[number]) <= room], ids, max_new_tokens):
        longest = max(len(ids[number]) for number in batch)
        new_tokens = min(max_new_tokens, room + 1 - longest)
        texts = _greedy(model, tokenizer, [ids[number] for number in batch], new_tokens, device)
        for number, reply in zip(batch, texts, strict=True):
            replies[number] = reply
        done += len(batch)
        progress(done)
    return replies


def _prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _batches(numbers: Sequence[int], ids: Sequence[Sequence[int]], new_tokens: int) -> Iterator[list[int]]:
    """Of similar length, at most :data:`_BATCH_TOKENS` in all, but one prompt at least."""
    batch: list[int] = []
    for number in sorted(numbers, key=lambda number: (len(ids[number]), number)):
        if batch and (len(batch) + 1) * (len(ids[number]) + new_tokens) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _greedy(model: Any, tokenizer: Any, ids: Sequence[Sequence[int]], new_tokens: int, device: str) -> list[Reply]:
    import torch

    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    longest = max(len(one) for one in ids)
    inputs = torch.tensor([[pad] * (longest - len(one)) + list(one) for one in ids], device=device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in ids], device=device)
    with torch.inference_mode():
        output = model.generate(
            input_ids=inputs,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            do_sample=False,
            use_cache=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=pad,
        )
    return [_reply(tokenizer, row[longest:].tolist()) for row in output]


def _reply(tokenizer: Any, tokens: list[int]) -> Reply:
    finished = tokenizer.eos_token_id in tokens
    if finished:
        tokens = tokens[: tokens.index(tokenizer.eos_token_id)]
    return Reply(tokenizer.decode(tokens, skip_special_tokens=True), finished)
