"""The question about a pair, in any of the forms of arXiv 2502.07316, table 3; the texts are prompts/pose.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from codeio_hpc.config import load_yaml


@cache
def prompt_texts() -> dict[str, Any]:
    """The texts and their version."""
    return load_yaml(Path(__file__).parent / "prompts" / "pose.yaml")


def write_prompt(row: Mapping[str, Any], direction: str, mode: str, response: str = "cot") -> str:
    """The question about a pair or, for ``function``, about the examples of a function.

    ``mode`` says what is shown (question+code, question, code), ``response`` what is asked for (cot: thoughts and the
    answer; code+cot: code before them; code: nothing else). The code is never shown where it is asked for.
    """
    texts = prompt_texts()
    shown = texts["induction" if direction == "function" else "modes"][mode]
    names = list(json.loads(row["input"]))
    fields = {
        "question": row["question"],
        "io_description": row["io_description"],
        "code": row["code"].strip(),
        "value": row["input"] if direction == "output" else row["output"],
        "examples": _examples(row) if direction == "function" else "",
        "function": f"{row['entry_point']}({', '.join(names)})",
        "answer": answer_form(row, direction, names),
    }
    parts = [texts["parts"][name] for name in shown]
    # format fields are filled once, so braces in the code or the values stay as they are
    wanted = [*parts, texts["given"][direction], texts["ask"][response][direction]]
    return "".join(part.format(**fields) for part in wanted).strip()


def _examples(row: Mapping[str, Any]) -> str:
    pairs = json.loads(row["examples"])["shown"]
    return "\n".join(f"  {given} -> {output}" for given, output in pairs)


def answer_form(row: Mapping[str, Any], direction: str, names: list[str]) -> str:
    """How the answer is to be written: the keys, with an ellipsis for each value; or the function's head."""
    if direction == "output":
        return '{"output": …}'
    if direction == "function":
        return f"{row['entry_point']}({', '.join(names)})"
    keys = ", ".join(f"{json.dumps(name)}: …" for name in names)
    return f'{{"input": {{{keys}}}}}'
