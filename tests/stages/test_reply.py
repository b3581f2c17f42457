"""A model's four-part reply: slips of form are repaired and named, the rest is refused with a reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeio_hpc.stages.static.module import Refused
from codeio_hpc.stages.static.reply import HEADINGS, parse_reply, require_named

CODE = "def main_solution(total_eggs, size):\n    return total_eggs // size\n"
GENERATOR = "import random\n\ndef input_generator():\n    return {'total_eggs': random.randint(1, 99), 'size': 6}\n"
SPEC = "Input:\n  `total_eggs` (int): eggs.\n  `size` (int): of a box.\nOutput:\n  `return` (int): boxes."
QUESTION = "How many full boxes of `size` eggs do total eggs fill?"


def reply(
    headings: tuple[str, ...] = tuple(f"## {heading}" for heading in HEADINGS.values()),
    code: str = f"```python\n{CODE}```",
    spec: str = SPEC,
    generator: str = f"```python\n{GENERATOR}```",
    question: str = QUESTION,
) -> str:
    parts = zip(headings, (code, spec, generator, question), strict=True)
    return "Here it is.\n\n" + "\n\n".join(f"{heading}\n\n{part}" for heading, part in parts) + "\n"


def test_a_reply_as_it_was_asked_for_needs_no_repair() -> None:
    parsed = parse_reply(reply())
    assert parsed.repairs == ()
    assert parsed.function.code == CODE and parsed.function.generator == GENERATOR
    assert parsed.function.io_description == SPEC and parsed.function.question == QUESTION


@pytest.mark.parametrize(
    ("text", "repairs"),
    [
        (
            reply(("### Main function:", "**Input/Output Description**", "# Input generator", "4. Question")),
            ["heading"],
        ),
        (
            reply(("## 1. Main Function", "## I/O Description", "**Input Generator:**", "## Problem statement ##")),
            ["heading"],
        ),
        ("<think>\n## Main Function\nfirst I should</think>" + reply(), ["thoughts"]),
        (reply(code=f"```py\n{CODE}```"), []),
        (reply(code=f"~~~\n{CODE}~~~"), []),
        (reply(code=f"```python\n{CODE}"), ["unclosed_fence"]),
        (reply(code=CODE), ["no_fence"]),
        (reply(code=f"```bash\nls\n```\n```python\nprint(1)\n```\nor\n```python\n{CODE}```"), ["several_blocks"]),
        (reply(code=f"```python\n{CODE}```\nused so:\n```python\nmain_solution(12, 6)\n```"), ["several_blocks"]),
        (reply(spec=f"```\n{SPEC}\n```"), []),
        (reply(code=f"```python\n# ## Input Generator\n{CODE}```"), []),
        (reply(code=f"````python\n{CODE}````"), []),
        (reply().replace("\n", "\r\n"), []),
        ("## Main Function\n\n(to follow)\n\n" + reply(), ["repeated_heading"]),
    ],
)
def test_slips_of_form_are_repaired_and_named(text: str, repairs: list[str]) -> None:
    parsed = parse_reply(text)
    assert list(parsed.repairs) == repairs
    assert parsed.function.code.endswith(CODE)
    assert parsed.function.io_description == SPEC and parsed.function.question == QUESTION


def test_parts_in_another_order_are_found() -> None:
    first, rest = reply().split("## Input Output Description")
    parsed = parse_reply("## Input Output Description" + rest + "\n" + first)
    assert parsed.repairs == ("order",)
    assert parsed.function.code == CODE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I am sorry, I cannot do that.", "missing_heading"),
        ("", "missing_heading"),
        (reply().replace("## Input Generator", "And so:"), "missing_heading"),
        (reply(question=""), "missing_part"),
        (reply(code="It divides the eggs by the size."), "no_code"),
        (reply(code="```json\n{}\n```"), "no_code"),
        (reply(code=f"```python\n{CODE.replace('main_solution', 'solve')}```"), "no_entry_point"),
        (reply(generator=f"```python\n{GENERATOR.replace('input_generator', 'make')}```"), "no_generator"),
        ("<think>" + reply(), "missing_heading"),
    ],
)
def test_what_cannot_be_repaired_without_guessing_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_reply(text)
    assert caught.value.reason == reason


def test_a_question_must_name_the_variables() -> None:
    function = parse_reply(reply()).function
    require_named(function, ["total_eggs", "size"])
    with pytest.raises(Refused, match="question_without: count"):
        require_named(function, ["size", "count"])


@settings(deadline=None)  # a busy machine is no defect
@given(st.text(max_size=400), st.integers(0, 2000), st.integers(0, 300))
def test_no_text_breaks_the_parser(noise: str, place: int, cut: int) -> None:
    whole = reply()
    place %= len(whole)
    try:
        parse_reply(whole[:place] + noise + whole[place + cut :])
    except Refused as refused:
        assert refused.reason
