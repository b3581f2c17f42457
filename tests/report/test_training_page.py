"""What the report page, in a real browser, shows of a training and of its validation."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.cli import main
from codeio_hpc.launch.attempts import new_attempt
from codeio_hpc.launch.run import open_run
from codeio_hpc.report import write_report
from codeio_hpc.report.training import training
from tests.report.test_page import rendered

VALIDATION = [(10, 4.5), (20, 1.5), (30, 1.25), (40, 1.375)]
ANOTHER_COLOUR = """<script>
const stroke = (name) => getComputedStyle(document.querySelector(`svg g.${name} polyline`)).stroke;
document.body.dataset.colours = new Set([stroke("training"), stroke("validation")]).size;
</script></body>"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of questions, without tokens and training."""
    folder = tmp_path_factory.mktemp("trained")
    rows = [{"instruction": f"Double {number}.", "input": "", "output": f"{2 * number}"} for number in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["import", str(folder / "rows.jsonl"), "--run", str(folder / "run"), "launch.workers=0"]
    assert main(words) == 0
    return folder / "run"


@pytest.fixture
def trained(imported: Path, tmp_path: Path) -> Path:
    """The same with 40 steps of stage 2, the last two of which stood out."""
    run = tmp_path / "run"
    shutil.copytree(imported, run)
    steps = [{"step": n, "loss": 4 - n / 20, "lr": 1e-3, "spikes": max(0, n - 38)} for n in range(1, 41)]
    write_lines(run / "train" / "stage2" / "metrics.jsonl", steps)
    return run


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def points(dom: str, name: str) -> list[str]:
    """Of the line of that name in the first chart."""
    [found] = re.findall(rf'<g class="{name}"><polyline points="([^"]+)"', dom.split("<figure>")[1])
    return str(found).split()


def test_the_validation_loss_is_drawn_into_the_picture_and_its_best_is_told(trained: Path) -> None:
    measured = ({"step": step, "loss": loss} for step, loss in VALIDATION)
    write_lines(trained / "train" / "stage2" / "validation.jsonl", measured)
    page = write_report(trained)
    page.write_text(page.read_text("utf-8").replace("</body>", ANOTHER_COLOUR), encoding="utf-8")
    dom = rendered(page)
    losses, validation = points(dom, "training"), points(dom, "validation")
    assert len(losses) == 40 and len(validation) == 4
    at = dict(each.split(",") for each in losses)
    for each, (_, loss) in zip(validation, VALIDATION, strict=True):
        x, y = each.split(",")
        of_training = 4 - (list(at).index(x) + 1) / 20
        assert (float(y) > float(at[x])) == (loss < of_training), "both are of one scale, of steps and of losses"
        assert 14 <= float(y) <= 172, "within the axes, although it begins above the training loss"
    assert [list(at).index(each.split(",")[0]) + 1 for each in validation] == [10, 20, 30, 40]
    assert 'data-colours="2"' in dom and "validation, step 30: 1.25" in dom
    assert re.findall(r'<span class="key \w+">(\w+)</span>', dom) == ["training", "validation"]
    told = re.sub(r"<[^>]+>", "", dom)
    assert (
        "Validation loss, of sequences that are never trained: best 1.2500 at step 30, last 1.3750 at step 40" in told
    )


def test_without_validation_nothing_is_said_of_it(trained: Path) -> None:
    dom = rendered(write_report(trained))
    assert len(points(dom, "training")) == 40
    assert "validation" not in dom.split('<section id="training">')[1].split("</section>")[0].lower()


def test_steps_that_stood_out_are_named_below_the_curves(trained: Path) -> None:
    assert "Loss or gradient norm stood out at 2 steps, first at step 39" in write_report(trained).read_text("utf-8")


def start(run: Path, number: int, loaded: float) -> None:
    """The record of a training's start that did a step a second after it had loaded the checkpoint."""
    attempt = new_attempt(run, f"stage2-here{number:03d}", 0)
    attempt.moments = {"loaded": loaded, "step": loaded + 1}
    attempt.save(run)


@pytest.mark.parametrize(
    ("lost", "resumed"),
    [
        ([], [20, 30]),  # told to stop, twice
        ([(21, 200.5), (22, 200.5)], [20, 30]),  # killed, and told to stop
        ([(16, 300.5), (30, 300.5)], [15]),  # the checkpoints of steps 20 and 30 were damaged
        ([(1, 300.5), (30, 300.5)], []),  # begun afresh
    ],
)
def test_where_a_training_went_on_is_marked(
    trained: Path, lost: Sequence[tuple[int, float]], resumed: list[int]
) -> None:
    folder = trained / "train" / "stage2"
    saves = [(10, 110.0), (20, 120.0), (30, 230.0), (40, 340.0)]
    write_lines(folder / "saves.jsonl", [{"step": step, "time": time} for step, time in saves])
    write_lines(folder / "lost.jsonl", [{"step": step, "time": time} for step, time in lost])
    for number, loaded in enumerate((100.0, 200.0, 300.0)):
        start(trained, number, loaded)
    found = training(open_run(trained), "stage2")
    assert found is not None and found["resumed"] == resumed
    assert [step for _, step in found["charts"][0].marks] == resumed
    page = write_report(trained).read_text("utf-8")
    assert ("gone on after step 20, 30 (dotted lines)" in page) == (resumed == [20, 30])
    assert page.count('<line class="mark"') == 2 * len(resumed)
