"""The report page in a real browser: it draws what the run holds, and nothing in the data can break out of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml

from codeio_hpc.report import write_report
from codeio_hpc.report.curves import curve
from codeio_hpc.report.page import script_json
from codeio_hpc.tables.reasons import MEANING

HOSTILE = '''
def shout(text: str) -> str:
    """Say </script><script>document.title = 'owned'</script> or <img src=x onerror="document.title='owned'">."""
    return text.upper() + "</script><script>document.title = 'owned'</script><!-- \u202e \\u2028 &amp; {{ 7 * 7 }}"


def label(count: int) -> str:
    """<img src=x onerror="document.title='owned'">"""
    return "<img src=x onerror=\\"document.title='owned'\\">" * (count > 3) + str(count) + "x" * 60


def loud(text: str):
    print(text)
'''


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run over hostile code, without training and evaluation."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "code").mkdir()
    (folder / "code" / "<b onclick=owned>'&.py").write_text(HOSTILE, encoding="utf-8")
    config = {
        "name": "hostile",
        "sources": [{"name": "here", "path": "code"}],
        "sample": {"pairs": 6},
        "teacher": {"kind": "tracer", "error_rate": 0.7},
    }
    (folder / "hostile.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "codeio_hpc", "build", "hostile.yaml", "launch.workers=0"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return write_report(folder / "runs" / "hostile")


def rendered(page: Path, width: int = 1200) -> str:
    """The page's elements after its script has run."""
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},2000",
        "--virtual-time-budget=2000",
    ]
    result = subprocess.run(
        ["chromium", *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_hostile_data_is_shown_and_never_executed(page: Path) -> None:
    dom = rendered(page)
    assert re.search(r"<title>hostile · codeio-hpc</title>", dom)
    assert re.search(r'<span id="place">1 of \d+ here</span>', dom), "the page's own script has run"
    sample = dom.split('<article id="sample">')[1].split("</article>")[0]
    assert set(re.findall(r"<(\w+)", sample)) == {"h3", "h4", "p", "pre", "details", "summary"}
    shown = unescape(sample)
    assert "<b onclick=owned>'&.py" in shown
    assert "document.title = 'owned'" in shown or "document.title='owned'" in shown


def test_rejected_rows_and_the_origin_of_samples_are_on_the_page(page: Path) -> None:
    data = json.loads(page.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0])
    assert {row["reason"] for row in data["rejected"]} >= {"surplus"}
    for row in data["rejected"]:
        assert row["path"] == "<b onclick=owned>'&.py" and row["text"] and row["row_id"]
    assert all(sample["raw"] == HOSTILE for sample in data["samples"])


def test_a_rejected_row_says_what_its_reason_means_and_shows_the_function(page: Path) -> None:
    data = json.loads(page.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0])
    [row] = [row for row in data["rejected"] if row["reason"] == "impure:print"]
    assert row["meaning"] == MEANING["impure"] and row["total"] == 1
    assert row["what"] == "the function in its raw file"
    assert [line.strip() for line in row["text"].splitlines()] == ["12 def loud(text: str):", "13     print(text)"]
    surplus = next(row for row in data["rejected"] if row["reason"] == "surplus")
    assert "(input: {" in surplus["detail"] and surplus["what"] == "the code of its function"


def test_a_reason_of_the_funnel_leads_to_its_rows(page: Path, tmp_path: Path) -> None:
    click = "<script>document.querySelector('a[data-reason=\"impure\"]').click()</script></body>"
    clicked = tmp_path / "clicked.html"
    clicked.write_text(page.read_text(encoding="utf-8").replace("</body>", click), encoding="utf-8")
    shown = unescape(rendered(clicked).split('<article id="sample">')[1].split("</article>")[0])
    assert "transform: impure:print" in shown and MEANING["impure"] in shown


def test_the_page_needs_nothing_from_outside(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text.split('<script type="application/json"')[0])
    assert "@import" not in text and "url(" not in text.split('<script type="application/json"')[0]


def test_what_is_missing_yet_is_named_with_the_command_that_makes_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "codeio train" in text and "codeio evaluate" in text


def test_the_page_tells_the_rows_and_reasons_of_the_run(page: Path) -> None:
    dom = unescape(re.sub(r"<[^>]+>", " ", rendered(page)))
    assert re.search(r"source files\s+1\b", dom)
    assert re.search(r"functions\s+2\b", dom)
    assert re.search(r"turn1:output:(correct|wrong)\s+\d+", dom)


def test_data_in_a_script_element_cannot_end_it() -> None:
    assert script_json({"a": "</script><!--&"}) == '{"a": "\\u003c/script\\u003e\\u003c!--\\u0026"}'
    assert "\u2028" not in script_json("\u2028") and "\ud800" not in script_json("\ud800")


def test_a_curve_of_one_step_or_equal_values_is_drawn() -> None:
    assert curve({"training": [{"step": 1, "loss": 0.0}]}, "loss").lines[0].points
    [drawn] = curve({"training": [{"step": step, "loss": 2.0} for step in (1, 2, 3)]}, "loss").lines
    assert len(drawn.points.split()) == 3 and "nan" not in drawn.points
