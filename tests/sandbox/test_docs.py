"""What docs/sandbox.md says can be typed and is true."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from codeio_hpc.sandbox import LEVELS, Verdict
from codeio_hpc.sandbox.execute import run_lines

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")


def test_the_requests_of_the_page_run_and_answer_as_shown() -> None:
    requests, shown = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    sink = io.StringIO()
    assert run_lines(io.StringIO(requests), sink) == 0
    square, made = (json.loads(line) for line in sink.getvalue().splitlines())
    example = json.loads(shown)
    for line in (square, example):
        for result in line["results"]:
            del result["cpu_ms"], result["wall_ms"]
    assert square == example
    assert made["results"][0]["output"] == 16


def test_the_page_names_every_verdict_and_level() -> None:
    for name in (*Verdict, *LEVELS):
        assert f"`{name}`" in PAGE
