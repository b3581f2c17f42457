"""`codeio import` and `codeio tokenize`: finished samples go through the engine as code does."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from codeio_hpc.cli import main
from codeio_hpc.errors import UserError
from codeio_hpc.evaluate.run import with_questions
from codeio_hpc.export.write import export
from codeio_hpc.launch.attempts import read_attempts
from codeio_hpc.launch.notice import MISCONFIGURED
from codeio_hpc.launch.run import folders_of, open_run
from codeio_hpc.report import write_report
from codeio_hpc.report.rows import show, show_text
from codeio_hpc.stages import import_
from codeio_hpc.tables.shards import read_footer
from tests.conftest import CONFIG, ROOT, SOURCES, dataset_bytes, rows_of

TINY = ROOT / "configs" / "models" / "tiny.yaml"
ROWS = [
    {"instruction": f"Double {number}.", "input": "", "output": f"{2 * number}", "license": "MIT"}
    for number in range(40)
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of 40 questions, a duplicate, a broken line, and one that no sequence has room for."""
    path = tmp_path / "rows.jsonl"
    long = {"instruction": "Count.", "input": "", "output": " ".join(map(str, range(2000)))}
    lines = [json.dumps(row) for row in [*ROWS, ROWS[3], long]]
    path.write_text("\n".join([*lines, "{broken"]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run over one file of code, without tokens."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "files").mkdir()
    shutil.copy(SOURCES / "numbers_.py", folder / "files")
    config = yaml.safe_load(CONFIG) | {"recipe": None, "sample": {"pairs": 2}, "launch": {"workers": 0}}
    config["sources"] = [{"name": "here", "path": str(folder / "files"), "licence": "MIT"}]
    (folder / "code.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main(["build", str(folder / "code.yaml"), "--run", str(folder / "code")]) == 0
    return folder / "code"


def codeio(*words: object) -> int:
    return main([*map(str, words), "launch.workers=0"])


def test_import_makes_a_run_whose_accounts_add_up(rows: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "it"
    shards = "imports.samples_per_shard=10"
    assert codeio("import", rows, shards, "--run", run, "--licence", "CC0-1.0", "--recipe", TINY) == 0
    opened = open_run(run)
    assert (opened.config.name, opened.shards, opened.config.samples[0].name) == ("it", 5, "rows")
    samples, sequences = rows_of(run, "import"), rows_of(run, "tokenise")
    assert {(row["licence"], row["training_stage"], row["source"]) for row in samples} == {
        ("CC0-1.0", "stage2", "rows")
    }
    packed = [sample for row in sequences for sample in row["sample_ids"]]
    assert len(samples) == 41 and sorted(packed) == sorted(
        row["sample_id"] for row in samples if len(row["messages"][1]["content"]) < 99
    )
    counts = {"tokens": 0, "room": 0, "documents": 0}
    for attempt in read_attempts(run):
        for totals in attempt.stages.values():
            for name in counts:
                counts[name] += totals.counts.get(name, 0)
    assert counts == {
        "tokens": sum(len(row["input_ids"]) for row in sequences),
        "room": 1024 * len(sequences),
        "documents": 40,
    }
    assert codeio("import", rows, shards, "--run", run, "--licence", "CC0-1.0", "--recipe", TINY) == 0


def test_what_is_typed_becomes_a_configuration(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other" / "rows.jsonl"
    other.parent.mkdir()
    shutil.copy(rows, other)
    odd = tmp_path / "a=b.jsonl"
    shutil.copy(rows, odd)
    words = ["import", rows, other, odd, "seed=7", "--run", tmp_path / "run", "--training-stage", "rft"]
    assert codeio(*words, "--weight", "0.5", "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "complete"
    config = open_run(tmp_path / "run").config
    assert config.seed == 7 and config.recipe is None
    assert [(each.name, each.path) for each in config.samples] == [
        ("rows", str(rows)),
        ("rows-again1", str(other)),
        ("a-b", str(odd)),
    ]
    assert {(each.training_stage, each.weight) for each in config.samples} == {("rft", 0.5)}
    assert {row["training_stage"] for row in rows_of(tmp_path / "run", "import")} == {"rft"}


def test_a_dry_run_writes_nothing(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert codeio("import", rows, "--run", tmp_path / "run", "--recipe", "tiny", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "43 records in 1 shards" in shown and "import-to-tokenise" in shown
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["import", "nowhere.jsonl"], "does not exist"),
        (["import", "{rows}", "imports.near_duplicats=0.9"], "did you mean 'near_duplicates'"),
        (["import", "{rows}", "--recipe", "nothing"], "known recipes: "),
        (["tokenize", "{rows}", "--recipe", "tiny"], "no run.json"),
        (["import", "{rows}", "--format", "chat"], "messages: NAME"),
    ],
)
def test_mistakes_are_told_in_three_lines(
    rows: Path, tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert codeio(*(word.format(rows=rows) for word in words), "--run", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said and not (tmp_path / "run").exists()


def test_code_and_instructions_become_one_training_run(
    built: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instructions, both = tmp_path / "instructions", tmp_path / "both"
    assert codeio("import", rows, "--run", instructions) == 0
    assert codeio("tokenize", built, instructions, "--recipe", "tiny", "--run", both) == 0
    samples = rows_of(built, "assemble")
    taken = {row["sample_id"]: row for row in rows_of(both, "import")}
    assert taken.keys() <= {row["sample_id"] for row in [*samples, *rows_of(instructions, "import")]}
    own = ("conversation_id", "function_id", "messages", "training_stage", "difficulty", "path", "licence", "tags")
    for row in samples:
        if row["sample_id"] in taken:
            assert all(taken[row["sample_id"]][name] == row[name] for name in own)
    stages = {row["training_stage"] for row in rows_of(both, "tokenise")}
    assert stages == {"stage1", "stage2"}
    config = open_run(both).config
    assert [each.run for each in config.samples] == [str(built), str(instructions)]
    assert set(folders_of(open_run(both))) >= {built, instructions}
    shown = show(both, samples[0]["sample_id"])
    assert [entry["table"] for entry in shown["rows"]] == ["sources", "samples"]
    assert f"codeio show {built} {samples[0]['conversation_id']}" in show_text(shown)
    assert [row["row"]["language"] for row in shown["rows"]] == ["text", "python"]
    assert re.findall(r"  language: (\w+)", show_text(shown)) == ["python"]
    page = write_report(both).read_text(encoding="utf-8")
    assert {stage for stage in ("stage1", "stage2", "rft") if f"samples of {stage}" in page} == stages
    assert with_questions(open_run(both)).folder == built == with_questions(open_run(built)).folder
    with pytest.raises(UserError, match="no held-out functions"):
        with_questions(open_run(instructions))


def test_another_recipe_changes_no_sample(built: Path, tmp_path: Path) -> None:
    shutil.copytree(TINY.parent / "tiny", tmp_path / "tiny")
    recipe = yaml.safe_load(TINY.read_text(encoding="utf-8")) | {"name": "short", "sequence_length": 512}
    recipe["stages"]["stage2"]["sequence_length"] = 300
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    for name, chosen in (("long", TINY), ("short", tmp_path / "short.yaml")):
        assert codeio("tokenize", built, "--recipe", chosen, "--run", tmp_path / name) == 0
    first, second = (
        {n: d for n, d in dataset_bytes(tmp_path / name).items() if "import" in n} for name in ("long", "short")
    )
    assert first == second
    longest = {
        stage: max(
            len(row["input_ids"]) for row in rows_of(tmp_path / "short", "tokenise") if row["training_stage"] == stage
        )
        for stage in ("stage1", "stage2")
    }
    assert longest["stage2"] <= 300 < longest["stage1"] <= 512


def test_a_run_that_changes_under_a_run_taken_from_it_stops_it(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(built, source)
    words = ("tokenize", source, "--recipe", "tiny", "--run", tmp_path / "run")
    assert codeio(*words) == 0
    shutil.rmtree(tmp_path / "run" / "stages" / "01-import")
    [folder] = (source / "stages").glob("*-assemble")
    part = folder / "part-00000.parquet"
    footer = read_footer(part)
    assert footer is not None
    data = part.read_bytes()
    part.write_bytes(data.replace(footer.checksum.encode(), ("0" * 64).encode()))
    import_._samples.cache_clear()  # a command of its own has read nothing before
    with pytest.raises(SystemExit) as stopped:
        main(["resume", str(tmp_path / "run")])
    assert stopped.value.code == MISCONFIGURED
    assert "holds other samples than when this run was created" in capsys.readouterr().err
    part.write_bytes(data)
    assert main(["resume", str(tmp_path / "run")]) == 0


def test_a_run_that_is_not_complete_is_not_taken_from(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(built, tmp_path / "source")
    [folder] = (tmp_path / "source" / "stages").glob("*-assemble")
    (folder / "part-00000.parquet").unlink()
    assert codeio("tokenize", tmp_path / "source", "--recipe", "tiny", "--run", tmp_path / "run") == 2
    assert "not all samples are made" in capsys.readouterr().err


def mixed(built: Path, rows: Path, tmp_path: Path, **settings: Any) -> Path:
    config = {
        "name": "mix",
        "recipe": str(TINY),
        "samples": [
            {"name": "code", "run": str(built), "only": "stage1"},
            {"name": "tenth", "run": str(built), "only": "stage1", "training_stage": "stage2", "weight": 0.4},
            {"name": "instructions", "path": str(rows), "weight": 1.5, "columns": {"licence": "license"}},
        ],
        "imports": {"samples_per_shard": 16},
        **settings,
    }
    path = tmp_path / "mix.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def start(config: Path, run: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "codeio_hpc", "build", str(config), f"launch.workers={workers}", "--run", str(run)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, start_new_session=True, cwd=config.parent, stdout=quiet, stderr=quiet)


def test_a_mix_is_the_same_bytes_with_any_number_of_workers_and_after_kills(
    built: Path, rows: Path, tmp_path: Path
) -> None:
    config = mixed(built, rows, tmp_path, recipe=None, imports={"samples_per_shard": 2})
    assert codeio("build", config, "--run", tmp_path / "one") == 0
    wanted = dataset_bytes(tmp_path / "one")
    run = tmp_path / "three"
    for pattern in ("sketch-*", "part-*"):
        process = start(config, run, workers=3)
        deadline = time.monotonic() + 120
        while process.poll() is None and not list(run.glob(f"stages/01-import/{pattern}")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert len(dataset_bytes(run)) < len(wanted), "killed in the middle"
    assert start(config, run, workers=3).wait(timeout=300) == 0
    assert dataset_bytes(run) == wanted


def test_a_mix_takes_the_share_and_the_stage_that_it_names(built: Path, rows: Path, tmp_path: Path) -> None:
    assert codeio("build", mixed(built, rows, tmp_path, recipe=None), "--run", tmp_path / "mix") == 0
    samples = rows_of(tmp_path / "mix", "import")
    stage1 = [row for row in rows_of(built, "assemble") if row["training_stage"] == "stage1"]
    by_source = {name: [row for row in samples if row["source"] == name] for name in ("code", "tenth", "instructions")}
    assert len(by_source["code"]) == len(stage1)
    assert {row["training_stage"] for row in by_source["tenth"]} == {"stage2"}
    texts = {json.dumps(row["messages"]) for row in stage1}
    assert 0 < len(by_source["tenth"]) < len(stage1)
    assert {json.dumps(row["messages"]) for row in by_source["tenth"]} < texts
    assert len({row["sample_id"] for row in samples}) == len(samples), "a sample in two stages has two ids"
    assert {row["repeats"] for row in by_source["instructions"]} == {1, 2}
    assert {row["licence"] for row in by_source["instructions"]} == {"MIT", "unknown"}


def test_imported_samples_have_a_page_a_card_and_exports(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain.txt").write_text("Words.", encoding="utf-8")
    run, plain = tmp_path / "it", tmp_path / "plain"
    bench = tmp_path / "bench.jsonl"
    bench.write_text(json.dumps({"q": " ".join(f"w{chr(97 + n)}rd" for n in range(20))}) + "\n", encoding="utf-8")
    compare = f"decontaminate.benchmarks=[{{name: bench, path: {bench}}}]"
    assert codeio("import", rows, compare, "--run", run, "--weight", "2") == 0
    assert codeio("import", tmp_path / "plain.txt", "--run", plain) == 0
    assert [row["sample_id"] for row in rows_of(run, "decontaminate")] == [
        row["sample_id"] for row in rows_of(run, "import")
    ]
    page = write_report(run).read_text(encoding="utf-8")
    assert "41 samples of stage2, by their weights 82 in an epoch" in page and "records" in page
    done = export(run, "hf", None, "stage2")
    card = (Path(done["out"]) / "README.md").read_text(encoding="utf-8")
    assert done["samples"] == 41 and "82 in an epoch" in card and "| rows | 41 | unknown |" in card
    assert "{{" not in card and "None" not in card and "functions" not in card
    assert export(run, "trl", None, "stage2")["samples"] == 82
    assert export(run, "alpaca", None, "stage2")["samples"] == 82
    for folder, form in ((run, "public"), (plain, "messages")):
        with pytest.raises(UserError, match="no place for that"):
            export(folder, form, None, "stage2")
        assert not (folder / "export" / f"{form}-stage2").exists()
    assert write_report(plain).exists()
    assert main(["rejected", str(run), "--why", "duplicate"]) == 0
    assert "rows.jsonl:41" in capsys.readouterr().out
