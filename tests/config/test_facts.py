"""A model's config.json is held against the recipe before torch is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config import parse
from codeio_hpc.config.facts import check_model
from codeio_hpc.config.load import parse_yaml
from codeio_hpc.config.recipe import Recipe, load_recipe
from codeio_hpc.errors import UserError
from codeio_hpc.launch.commands import resume
from codeio_hpc.launch.compose import import_config
from codeio_hpc.launch.run import create_or_open_run
from codeio_hpc.train.models import ensure_untrained, load_model
from codeio_hpc.train.plan import make_plan
from tests.train.tiny_run import LENGTH, make_run

RECIPES = Path(__file__).parents[2] / "configs" / "models"
TINY = RECIPES / "tiny"
GEMMA = {
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "vocab_size": 256000,
    "num_hidden_layers": 46,
    "num_attention_heads": 32,
    "num_key_value_heads": 16,
    "hidden_size": 4608,
    "max_position_embeddings": 8192,
    "attn_logit_softcapping": 50.0,
}


def folder_of(tmp_path: Path, config: Any) -> Path:
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return tmp_path


def tiny(**changes: Any) -> dict[str, Any]:
    """The tiny model's configuration, changed; None takes a key away."""
    config = json.loads((TINY / "config.json").read_text(encoding="utf-8")) | changes
    return {key: value for key, value in config.items() if value is not None}


def recipe(name: str = "tiny", **changes: Any) -> Recipe:
    return load_recipe(RECIPES / f"{name}.yaml").model_copy(update=changes)


def test_the_recipes_own_model_is_accepted(tmp_path: Path) -> None:
    for stage in ("stage1", "stage2", "rft"):
        check_model(recipe(), stage, TINY)
        check_model(recipe("gemma-2-27b"), stage, folder_of(tmp_path, GEMMA))


def test_heads_share_no_keys_where_the_file_names_none(tmp_path: Path) -> None:
    check_model(recipe(), "stage1", folder_of(tmp_path, tiny(num_key_value_heads=None)))


def test_every_key_that_differs_is_named_with_both_values(tmp_path: Path) -> None:
    other = tiny(architectures=["Qwen2ForCausalLM"], vocab_size=151936, num_hidden_layers=None, hidden_size="96")
    with pytest.raises(UserError) as error:
        check_model(recipe(), "stage1", folder_of(tmp_path, other))
    assert str(tmp_path / "config.json") in error.value.found
    for words in (
        'architectures is "Qwen2ForCausalLM", expected "LlamaForCausalLM"',
        "vocab_size is 151936, expected 1024",
        "num_hidden_layers is missing, expected 2",
        'hidden_size is "96", expected 96',
    ):
        assert words in error.value.found
    assert "num_attention_heads" not in error.value.found
    assert "recipe 'tiny' is for another model" in error.value.why


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", []),
        ("architectures", [None]),
        ("architectures", {"a": 1}),
        ("num_hidden_layers", 2.0),
        ("num_hidden_layers", [2]),
        ("num_attention_heads", 8),
        ("num_key_value_heads", True),
        ("hidden_size", -96),
        ("max_position_embeddings", 1e400),
        ("vocab_size", "x" * 10_000),
    ],
)
def test_a_wrong_value_of_any_kind_is_another_model(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=key) as error:
        check_model(recipe(), "stage1", folder_of(tmp_path, tiny(**{key: value})))
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        (TINY / "config.json").read_text(encoding="utf-8")[:300],
        "[" * 100_000,
        '{"a": 1} {"b": 2}',
        "9" * 10_000,
        "[]",
        "null",
        '"config"',
        "\x00",
    ],
    ids=lambda text: text[:10] or "empty",
)
@pytest.mark.parametrize("facts", [True, False])
def test_a_broken_configuration_is_one_clear_error(tmp_path: Path, text: str, facts: bool) -> None:
    model = recipe() if facts else recipe(facts=None)
    with pytest.raises(UserError, match=r"config\.json") as error:
        check_model(model, "stage1", folder_of(tmp_path, text))
    assert "copy config.json" in error.value.fix and len(str(error.value)) < 600


def test_a_configuration_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        check_model(recipe(), "stage1", tmp_path)
    (tmp_path / "config.json").write_bytes(b'{"model_type": "\xff\xfe"}')
    with pytest.raises(UserError, match=r"config\.json: 'utf-8'"):
        check_model(recipe(), "stage1", tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UserError, match=r"config\.json: Is a directory"):
        check_model(recipe(), "stage1", tmp_path)


def test_a_stages_sequences_fit_into_the_models_context(tmp_path: Path) -> None:
    """By the stage's own length: RFT's 8,192 tokens are more than the recipe's 4,096."""
    short = folder_of(tmp_path, tiny(max_position_embeddings=4096))
    long = recipe("qwen2.5-coder-7b", facts=None)
    check_model(long, "stage2", short)
    with pytest.raises(UserError, match="sequence_length: 8192") as error:
        check_model(long, "rft", short)
    assert "4096 positions" in error.value.why


def test_a_recipe_whose_sequences_are_longer_than_its_facts_context_is_refused_wherever_it_is_read() -> None:
    text = (RECIPES / "tiny.yaml").read_text(encoding="utf-8")
    assert "sequence_length: 1024" in text
    with pytest.raises(UserError, match=r"of 2,048 \(stage1\) .* longer than the model's context of 1,024") as error:
        parse(Recipe, parse_yaml(text.replace("sequence_length: 1024", "sequence_length: 2048"), "r"), "r")
    assert "vocabulary" not in error.value.found, "the file is not shown before the point"


def test_nothing_is_tokenised_for_a_model_that_it_is_too_long_for(tmp_path: Path) -> None:
    """By config.json, where the recipe has no facts; nothing is written."""
    model = tmp_path / "model"
    shutil.copytree(TINY, model)
    folder_of(model, tiny(max_position_embeddings=64))
    stage = "{schedule: constant, lr: 1.0e-3, batch_size: 1, steps: 1}"
    text = f"name: r\nmodel: model\nsequence_length: 128\nstages: {{stage2: {stage}}}\n"
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    chat = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "Yes."}]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": chat}) + "\n", encoding="utf-8")
    words = [str(tmp_path / "chats.jsonl")]
    with pytest.raises(UserError, match="sequence_length: 128") as error:
        import_config(words, tmp_path / "run", tmp_path / "r.yaml", {})
    assert "64 positions" in error.value.why
    (model / "config.json").unlink()
    config = import_config(words, tmp_path / "run", tmp_path / "r.yaml", {})
    run = create_or_open_run(tmp_path / "run", config)
    folder_of(model, tiny(max_position_embeddings=64))  # as if sequence_length had been changed since
    with pytest.raises(UserError, match="sequence_length: 128"):
        resume(run.folder, None, wait=False, quiet=True)


def test_settings_that_do_not_fit_together_are_named_without_the_rest_of_their_section() -> None:
    stage = {"schedule": "cosine", "lr": 1e-5, "min_lr": 1e-3, "batch_size": 1, "steps": 9}
    with pytest.raises(UserError) as error:
        parse(Recipe, {"name": "r", "model": "m", "sequence_length": 64, "stages": {"stage1": stage}}, "r")
    assert error.value.found == "r: 'stages.stage1': min_lr is larger than lr"


@pytest.mark.parametrize("positions", ["8192", True, 0, -1, 8192.0])
def test_a_context_that_is_no_number_of_positions_is_refused(tmp_path: Path, positions: Any) -> None:
    with pytest.raises(UserError, match="it is a number of positions"):
        check_model(recipe(facts=None), "stage1", folder_of(tmp_path, tiny(max_position_embeddings=positions)))


def test_soft_capped_attention_is_not_trained_with_sdpa(tmp_path: Path) -> None:
    unsaid = {key: value for key, value in GEMMA.items() if key != "attn_logit_softcapping"}
    for config in (GEMMA, unsaid, tiny(attn_logit_softcapping=30.0, max_position_embeddings=4096)):
        model = recipe("gemma-2-27b", facts=None, attention="sdpa")
        with pytest.raises(UserError, match="attention: sdpa") as error:
            check_model(model, "stage1", folder_of(tmp_path, config))
        assert "attn_logit_softcapping" in error.value.why and "eager" in error.value.fix
    for attention in ("eager", "flash_attention_2", "flex_attention"):
        check_model(recipe("gemma-2-27b", attention=attention), "stage1", folder_of(tmp_path, GEMMA))
    uncapped = GEMMA | {"attn_logit_softcapping": None}
    check_model(recipe("gemma-2-27b", attention="sdpa"), "stage1", folder_of(tmp_path, uncapped))


# -- where a training starts -------------------------------------------------------------------------------------------


def run_with(tmp_path: Path, config: Any, **settings: int) -> Path:
    """A run whose recipe names a copy of the tiny model with another config.json."""
    model = tmp_path / "model"
    shutil.copytree(TINY, model)
    folder_of(model, config)
    run = make_run(tmp_path / "made")
    path = tmp_path / "made" / "recipe.yaml"
    text = path.read_text(encoding="utf-8").replace(f"model: {TINY}", f"model: {model}")
    for key, value in settings.items():
        text = text.replace(f"{key}: {LENGTH}", f"{key}: {value}")
    path.write_text(text, encoding="utf-8")
    return run


def test_a_training_checks_the_model_before_torch_is_loaded(tmp_path: Path) -> None:
    run = run_with(tmp_path, tiny(max_position_embeddings=LENGTH - 1))
    code = (
        f"import sys; from pathlib import Path; from codeio_hpc.train.run import train; "
        f"code = train(Path({str(run)!r}), 'stage1', 1, False); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 64, result.stderr
    assert f"{LENGTH - 1} positions" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "nonsense"}, "nonsense"),
        ({"model_type": None}, "model_type"),
        ({"num_attention_heads": 5}, "multiple"),
        ({"hidden_act": "nonsense"}, "nonsense"),
        ({"model_type": "nonsense", "auto_map": {"AutoConfig": "a.B", "AutoModelForCausalLM": "a.C"}}, "custom code"),
    ],
)
def test_a_model_that_transformers_cannot_build_is_one_clear_error(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    plan = make_plan(run_with(tmp_path, tiny(**changes)), "stage1")
    with pytest.raises(UserError, match=words) as error:
        ensure_untrained(plan)
    assert str(tmp_path / "model" / "config.json") in error.value.found
    assert len(str(error.value)) < 800
    assert not (plan.models / "untrained").exists()


def test_positions_that_config_json_does_not_tell_are_checked_when_the_model_is_there(tmp_path: Path) -> None:
    run = run_with(tmp_path, tiny(max_position_embeddings=None), sequence_length=4096)
    plan = make_plan(run, "stage1")
    ensure_untrained(plan)
    with pytest.raises(UserError, match="sequence_length: 4096") as error:
        load_model(plan, "float32", read=True)
    assert "2048 positions" in error.value.why
