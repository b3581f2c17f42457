"""What docs/sandbox.md says can be typed and is true."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest

from codeio_hpc.sandbox import LEVELS, Verdict
from codeio_hpc.sandbox.execute import run_lines

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
MEASURED = ("cpu_ms", "wall_ms", "memory_bytes")


def lines(text: str) -> list[dict]:
    read = [json.loads(line) for line in text.splitlines()]
    for result in (result for line in read for result in line["results"]):
        for name in MEASURED:
            result.pop(name, None)
    return read


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here; tools/system-packages installs it")
@pytest.mark.parametrize(("requests", "shown"), list(zip(BLOCKS[::2], BLOCKS[1::2], strict=True)))
def test_the_requests_of_the_page_run_and_answer_as_shown(requests: str, shown: str) -> None:
    sink = io.StringIO()
    assert run_lines(io.StringIO(requests), sink) == 0
    assert lines(sink.getvalue()) == lines(shown)


def test_the_page_names_every_verdict_and_level() -> None:
    for name in (*Verdict, *LEVELS):
        assert f"`{name}`" in PAGE


def test_the_python_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["result"].results[0].output == 9 and names["judged"].correct
