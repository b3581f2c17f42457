#!/usr/bin/env python3
"""Make the tiny model folder: a Llama configuration below 1 M parameters and a tokenizer of 1,024 tokens.

    python tools/make_tiny_model.py configs/models/tiny

The same Python version and library versions give the same bytes. The tokenizer learns from the running interpreter's
standard library and from text shaped like the prompts and answers of a run; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 1024
SPECIAL = ["<pad>", "<bos>", "<eos>", "<user>", "<assistant>"]
PIECES = r"[A-Za-z]+|[0-9]|\s+|[^A-Za-z0-9\s]"
"""Words, single digits, runs of white space, single other characters: a word is the same token wherever it stands."""

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "attention_bias": True,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "float32",
}

TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": "<pad>",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "additional_special_tokens": ["<user>", "<assistant>"],
    "clean_up_tokenization_spaces": False,
}

CHAT_TEMPLATE = (
    "<bos>"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}<assistant>{{ message['content'] }}<eos>"
    "{%- elif message['role'] == 'user' -%}<user>{{ message['content'] }}"
    "{%- else -%}{{ raise_exception('roles are user and assistant') }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<assistant>{%- endif -%}"
)

SENTENCES = (
    "You are given a question that requires some input and output variables as follows:",
    "The input and output requirements are as follows: Input: Output: Return:",
    "Reference code:",
    'Given the input: {value}\nWhat is the output? Think, then answer in the form {{"output": ...}}',
    'Given the output: {value}\nWhat input gives it? Think, then answer in the form {{"input": {{...}}}}',
    'Start with {name} = {value}.\nreturn {name}: {value}\nSo the output is {value}.\n{{"output": {value}}}',
    'The output must be {value}.\nTry {name} = {value}.\nThat gives {value}.\n{{"input": {{"{name}": {value}}}}}',
    "Let me check that. The answer is not correct: the execution raises an exception. So I have to think again.",
    "The answer is correct. Success. Feedback: with this input the output is {value}, not the wanted one.",
    "if {name} in {name}: yes\nfor {name} in {name}: no\n(12 more steps)\nthat raises ValueError",
)
NAMES = ("x", "value", "text", "items", "n", "key", "name", "data", "number", "string", "index", "result")


def sentences(count: int) -> Iterator[str]:
    """Text shaped like a run's prompts and answers."""
    chance = random.Random(0)
    for number in range(count):
        template = SENTENCES[number % len(SENTENCES)]
        yield template.format(value=json.dumps(_value(chance)), name=chance.choice(NAMES))


def _value(chance: random.Random, depth: int = 0) -> object:
    kind = chance.randrange(7 if depth < 2 else 5)
    if kind == 5:
        return [_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 6:
        return {chance.choice(NAMES): _value(chance, depth + 1) for _ in range(chance.randrange(3))}
    word = "".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(chance.randrange(1, 7)))
    return (chance.randrange(-50, 200), chance.random() < 0.5, None, word, chance.choice(NAMES))[kind]


def library() -> Iterator[str]:
    """The top-level modules of the standard library, in the order of their names."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        yield path.read_text(encoding="utf-8", errors="replace")


def make_tokenizer() -> Tokenizer:
    """Byte-level BPE of :data:`VOCABULARY` tokens, merges within the pieces only."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*library(), *sentences(40_000)], trainer)
    return tokenizer


def main() -> None:
    """Write the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer().save(str(folder / "tokenizer.json"))
    _write_json(folder / "config.json", CONFIG)
    _write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
