"""docs/tables.md lists exactly the columns there are."""

from __future__ import annotations

import re
from pathlib import Path

from codeio_hpc.tables.schemas import TABLES

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"


def test_the_page_lists_every_table_and_column_in_order() -> None:
    listed: dict[str, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## (\w+)", line):
            listed[heading[1]] = []
        elif row := re.match(r"\| `(\w+)` \|", line):
            listed[list(listed)[-1]].append(row[1])
    assert listed == {name: table.schema.names for name, table in TABLES.items()}
