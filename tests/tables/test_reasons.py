"""Every reason for which a row can be dropped is explained."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from codeio_hpc.config.run import Flag
from codeio_hpc.sandbox import Verdict
from codeio_hpc.tables.reasons import MEANING, meaning_of
from tests.conftest import ROOT

PLACES = {"Refused": 0, "RefusedRowError": 0, "NoAnswerError": 0, "Rejection": 1, "drop": 1}
"""Where a reason stands among the arguments of what drops a row."""
NEVER_A_REASON = {Verdict.OK, Verdict.INFRASTRUCTURE}


def written_reasons(path: Path) -> Iterator[str]:
    """Reasons that are written out in calls, up to a colon."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in PLACES and len(node.args) > PLACES[name]:
                match node.args[PLACES[name]]:
                    case ast.Constant(value=str(reason)) | ast.JoinedStr(values=[ast.Constant(value=reason), *_]):
                        yield reason.partition(":")[0]


def test_every_reason_is_explained() -> None:
    found = {
        reason
        for room in ("stages", "teachers")
        for path in (ROOT / "codeio_hpc" / room).rglob("*.py")
        for reason in written_reasons(path)
    }
    assert len(found) > 40
    assert found | {*Verdict} - NEVER_A_REASON | {*get_args(Flag)} <= MEANING.keys()
    assert meaning_of("impure:random") == MEANING["impure"] and meaning_of("made up") == ""


def test_the_page_of_reasons_has_them_all() -> None:
    lines = (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8").splitlines()
    assert [f"| `{reason}` | {text} |" for reason, text in MEANING.items()] == [
        line for line in lines if line.startswith("| `")
    ]
