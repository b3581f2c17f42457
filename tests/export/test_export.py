"""Every export is read back by the library it is meant for, or held against that library's published schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from codeio_hpc.errors import UserError
from codeio_hpc.export.formats import FORMATS
from codeio_hpc.export.write import export
from codeio_hpc.launch.plan import places
from codeio_hpc.launch.run import open_run
from tests.conftest import CONFIG, ROOT, rows_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    (folder / "small.yaml").write_text(CONFIG, encoding="utf-8")
    benchmark = folder / "bench.jsonl"
    benchmark.write_text('{"task": "Nothing that stands in any of these files, word for word, at all."}\n')
    command = [sys.executable, "-m", "codeio_hpc", "build", "small.yaml", "launch.workers=0"]
    command += [f"decontaminate.benchmarks=[{{name: bench, path: {benchmark}}}]"]
    command += ["pose.directions=[output, input, function]", "sample.wider=[{name: wide, cpu_seconds: 10}]"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "runs" / "small"


def samples_of(run: Path) -> list[dict[str, Any]]:
    return [row for row in rows_of(run, "assemble") if row["training_stage"] == "stage1"]


def exported(run: Path, form: str) -> Path:
    done = export(run, form, None, "stage1")
    assert done["samples"] == len(samples_of(run)) > 10
    return Path(done["out"])


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]


def test_hugging_face_loads_the_folder_offline_with_its_card(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub import DatasetCard

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = exported(run, "hf")
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(run / "cache"))
    assert [dict(row) for row in loaded] == samples_of(run)
    card = DatasetCard.load(folder / "README.md")
    assert card.data.pretty_name == "small" and card.data.license == "other"


def test_the_card_tells_where_the_data_comes_from_and_what_became_of_it(run: Path) -> None:
    text = (exported(run, "hf") / "README.md").read_text(encoding="utf-8")
    samples = samples_of(run)
    assert f"| samples | {len(samples):,} |" in text
    assert f"| here | {len(samples):,} | Apache-2.0 |" in text
    assert f"| function | 1 | {sum(row['direction'] == 'function' for row in samples)} |" in text
    assert "| bench | 1 | 0 | 0.00 % | 0 |" in text
    assert all(f"`{name}`" in text for name in samples[0])
    assert "branch outcomes" in text and "None" not in text and "{{" not in text


def test_parquet_and_json_lines_hold_every_column(run: Path) -> None:
    tables = [pq.read_table(path).to_pylist() for path in sorted(exported(run, "parquet").glob("*.parquet"))]
    assert [row for table in tables for row in table] == samples_of(run)
    assert lines_of(exported(run, "jsonl")) == samples_of(run)


def test_trl_trains_on_the_completion_of_its_export(run: Path) -> None:
    import datasets
    import transformers
    from trl import SFTConfig, SFTTrainer
    from trl.data_utils import is_conversational

    folder = exported(run, "trl")
    data = datasets.load_dataset(
        "json", data_files=str(folder / "train.jsonl"), split="train", cache_dir=str(run / "c")
    )
    assert is_conversational(data[0]) and set(data.column_names) == {"prompt", "completion"}
    tiny = ROOT / "configs" / "models" / "tiny"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(tiny))
    settings = SFTConfig(
        output_dir=str(run / "trl"), max_steps=1, report_to=[], use_cpu=True, max_length=512, bf16=False
    )
    trainer = SFTTrainer(model, settings, train_dataset=data.select(range(4)), processing_class=tokenizer)
    first = trainer.train_dataset[0]
    trained = [token for token in first["labels"] if token != -100]
    assert data[0]["completion"][0]["content"].strip() in tokenizer.decode(trained)
    assert trainer.train().global_step == 1


def test_axolotl_finds_messages_by_its_configuration(run: Path) -> None:
    folder = exported(run, "axolotl")
    [entry] = yaml.safe_load((folder / "axolotl.yaml").read_text(encoding="utf-8"))["datasets"]
    assert (entry["type"], entry["ds_type"], entry["field_messages"]) == ("chat_template", "json", "messages")
    names = entry["message_property_mappings"]
    rows = [json.loads(line) for line in (folder / entry["path"]).read_text(encoding="utf-8").splitlines()]
    for row, sample in zip(rows, samples_of(run), strict=True):
        messages = row[entry["field_messages"]]
        assert [message[names["role"]] for message in messages] == ["user", "assistant"]
        assert messages == sample["messages"]
    assert lines_of(exported(run, "messages")) == rows


def test_llama_factory_finds_the_data_by_dataset_info(run: Path) -> None:
    folder = exported(run, "llama-factory")
    [(name, entry)] = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")).items()
    assert name == "small" and entry["formatting"] == "sharegpt"
    tags, column = entry["tags"], entry["columns"]["messages"]
    rows = [json.loads(line) for line in (folder / entry["file_name"]).read_text(encoding="utf-8").splitlines()]
    roles = {tags["user_tag"]: "user", tags["assistant_tag"]: "assistant"}
    for row, sample in zip(rows, samples_of(run), strict=True):
        # its rule: the user speaks at odd places, the assistant at even ones
        assert [turn[tags["role_tag"]] for turn in row[column]] == [tags["user_tag"], tags["assistant_tag"]]
        back = [{"role": roles[turn[tags["role_tag"]]], "content": turn[tags["content_tag"]]} for turn in row[column]]
        assert back == sample["messages"]


def test_alpaca_has_instruction_input_and_output(run: Path) -> None:
    for row, sample in zip(lines_of(exported(run, "alpaca")), samples_of(run), strict=True):
        assert list(row) == ["instruction", "input", "output"] and row["input"] == ""
        assert [row["instruction"], row["output"]] == [message["content"] for message in sample["messages"]]


def test_the_public_columns_are_the_turns_and_their_feedback(run: Path) -> None:
    conversations = {row["conversation_id"]: row for row in rows_of(run, "decontaminate")}
    revised = 0
    for row, sample in zip(lines_of(exported(run, "public")), samples_of(run), strict=True):
        assert list(row) == ["prompt", "turn_1", "feedback_1", "turn_2", "feedback_2"]
        turns = conversations[sample["conversation_id"]]["turns"]
        assert [row["turn_1"], row["feedback_1"]] == [turns[0]["response"], turns[0]["feedback"]]
        assert (row["turn_2"] is None) == (len(turns) == 1)
        revised += row["turn_2"] is not None
    assert revised > 3


def test_an_export_appears_whole_or_not_at_all_and_is_not_made_twice(run: Path, tmp_path: Path) -> None:
    done = export(run, "jsonl", tmp_path / "out", "stage2")
    assert not done["done_before"] and export(run, "jsonl", tmp_path / "out", "stage2")["done_before"]
    with pytest.raises(UserError, match="it is not this export"):
        export(run, "messages", tmp_path / "out", "stage2")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        export(run, "jsonl", tmp_path / "file", "stage1")
    with pytest.raises(UserError, match="known: hf"):
        export(run, "csv", None, "stage1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]


def test_a_run_that_is_not_complete_is_refused(run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    place = next(place for place in places(open_run(copy)) if place.stage.name == "assemble")
    (place.folder / "part-00000.parquet").unlink()
    with pytest.raises(UserError, match="codeio resume"):
        export(copy, "jsonl", None, "stage1")


def test_every_format_is_tested_and_named_in_the_help() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-m", "codeio_hpc", "export", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for form in FORMATS:
        assert f'"{form}"' in text and form in told
