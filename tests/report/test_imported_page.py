"""The report page of a run of imported samples, in a real browser: it has no functions, but rows to look at."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest

from codeio_hpc.cli import main
from codeio_hpc.launch.run import open_run
from codeio_hpc.report import write_report
from codeio_hpc.report.facts import samples
from tests.report.test_page import rendered

ROWS = [
    {"instruction": f"Double <b>{number}</b>.", "input": "", "output": f"It is {2 * number}."} for number in range(99)
]
EVERY_CHOICE = """<script>
for (const option of controls.what.options) {
  if (option.disabled) continue;
  controls.what.value = option.value;
  controls.what.dispatchEvent(new Event("input"));
  const shown = document.createElement("p");
  shown.className = "shown";
  shown.textContent = `${option.value}: ${controls.place.textContent}: ${controls.sample.textContent}`;
  document.body.append(shown);
}
</script></body>"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 99 questions; a broken record was rejected."""
    folder = tmp_path_factory.mktemp("imported")
    lines = [*map(json.dumps, ROWS), "{broken"]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["imports.samples_per_shard=30", "launch.workers=0", "--run", str(folder / "run")]
    assert main(["import", str(folder / "rows.jsonl"), *words]) == 0
    return folder / "run"


def shown_by_choice(run: Path) -> dict[str, str]:
    """What is shown for each kind of rows that can be chosen."""
    page = write_report(run)
    page.write_text(page.read_text("utf-8").replace("</body>", EVERY_CHOICE), encoding="utf-8")
    texts = re.findall(r'<p class="shown">(\w+): (.*?)</p>', rendered(page), re.DOTALL)
    return {kind: unescape(text) for kind, text in texts}


def test_every_kind_of_row_in_the_list_is_shown_when_it_is_chosen(run: Path) -> None:
    shown = shown_by_choice(run)
    assert shown.keys() == {"samples", "rejected"}
    assert re.search(
        r"1 of \d+ here: stage2 \(rows: rows.jsonl:1\)userDouble <b>0</b>.assistantIt is 0.", shown["samples"]
    )
    assert "1 of 1 here: import: broken_record" in shown["rejected"]


def test_a_kind_without_rows_cannot_be_chosen(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for path in copy.glob("stages/*-import/part-*.parquet"):
        path.unlink()
    for path in copy.glob("stages/*-import/*rejected*"):
        path.unlink()
    assert not shown_by_choice(copy)


def test_samples_to_look_at_are_spread_over_the_run(run: Path) -> None:
    found = samples(open_run(run))
    numbers = [int(row["path"].partition(":")[2]) for row in found]
    assert 40 <= len(numbers) <= 60
    assert numbers[0] == 1 and numbers[-1] == 99 and {b - a for a, b in pairwise(numbers)} == {1, 2}


def test_why_there_is_no_evaluation_is_said_and_no_command_that_is_refused(run: Path) -> None:
    page = write_report(run).read_text("utf-8")
    said = page.split('<section id="evaluation">')[1].split("</section>")[0]
    assert "has no held-out functions: its samples were not made of code" in said and "codeio evaluate" not in said
    assert re.search(r"codeio train \S+ --stage stage2", page), "the first stage that there are samples for"
