"""Recipes and the tiny model's folder."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest

from codeio_hpc.config.recipe import load_recipe
from codeio_hpc.config.tokenizer import tokenizer_fingerprint, tokenizer_folder
from codeio_hpc.errors import UserError
from codeio_hpc.train.models import set_mimetic_attention

RECIPES = Path(__file__).parents[2] / "configs" / "models"
TINY = RECIPES / "tiny"


TWO_STAGES = ("qwen2.5-coder-7b", "llama-3.1-8b", "deepseek-coder-v2-lite", "gemma-2-27b")
RFT_ALONE = ("llama-3.0-8b", "llama-3.0-70b", "llama-3.1-70b")
FACTS = {  # architecture, then vocabulary, layers, heads, heads of keys and values, width, context
    "qwen2.5-coder-7b": ("Qwen2ForCausalLM", 152064, 28, 28, 4, 3584, 32768),
    "llama-3.0-8b": ("LlamaForCausalLM", 128256, 32, 32, 8, 4096, 8192),
    "llama-3.0-70b": ("LlamaForCausalLM", 128256, 80, 64, 8, 8192, 8192),
    "llama-3.1-8b": ("LlamaForCausalLM", 128256, 32, 32, 8, 4096, 131072),
    "llama-3.1-70b": ("LlamaForCausalLM", 128256, 80, 64, 8, 8192, 131072),
    "deepseek-coder-v2-lite": ("DeepseekV2ForCausalLM", 102400, 27, 16, 16, 2048, 163840),
    "gemma-2-27b": ("Gemma2ForCausalLM", 256000, 46, 32, 16, 4608, 8192),
    "tiny": ("LlamaForCausalLM", 1024, 2, 4, 4, 96, 1024),
}


@pytest.mark.parametrize("name", TWO_STAGES)
def test_the_two_stages_have_the_papers_numbers(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    one, two = recipe.stage("stage1"), recipe.stage("stage2")
    assert (one.batch_size, one.batch_unit, one.epochs, one.steps) == (1024, "samples", 1, None)
    assert (two.batch_size, two.batch_unit, two.epochs, two.steps) == (1024, "sequences", None, 700)
    for stage in (one, two):
        assert (stage.betas, stage.clip, stage.weight_decay, stage.warmup_steps) == ((0.9, 0.95), 1.0, 0.0, 0)
    assert (recipe.length("stage1"), recipe.length("stage2"), recipe.zero) == (4096, 4096, 2)


@pytest.mark.parametrize("name", [*TWO_STAGES, *RFT_ALONE])
def test_rft_has_the_papers_numbers(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    stage = recipe.stage("rft")
    assert (stage.schedule, stage.warmup_steps, stage.steps, stage.batch_unit) == ("cosine", 10, 545, "sequences")
    assert recipe.length("rft") == 8192
    assert stage.batch_size * recipe.length("rft") == 524_288
    assert recipe.has == (("rft",) if name in RFT_ALONE else ("stage1", "stage2", "rft"))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_states_its_models_facts_and_its_sequences_fit_into_the_context(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.facts is not None
    assert tuple(recipe.facts.model_dump().values())[:7] == FACTS[recipe.name]  # test_weights.py counts with the rest
    assert max(recipe.length(stage) for stage in recipe.has) <= recipe.facts.context


@pytest.mark.parametrize("name", [*TWO_STAGES, *RFT_ALONE])
def test_every_setting_says_where_it_comes_from(name: str) -> None:
    """A letter in brackets behind each, explained at the head of the file."""
    head, _, body = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").partition("\nname: ")
    explained = set(re.findall(r"^#   \[([A-Z])\] ", head, re.M))
    settings = [line for line in body.splitlines() if re.match(r"(    )?[a-z_]+:", line)]
    assert len(settings) >= 20
    assert {_source(line) for line in settings if not line.startswith(("initial:", "stages:"))} == explained


def _source(line: str) -> str:
    found = re.search(r" # \[([A-Z])\]", line)
    assert found, f"no source: {line}"
    return found[1]


def test_gemma_2_is_not_trained_with_plain_sdpa_or_float16() -> None:
    recipe = load_recipe(RECIPES / "gemma-2-27b.yaml")
    assert recipe.attention == "eager"
    assert recipe.dtype.cuda == "bfloat16"


def test_a_recipes_folder_lies_beside_it() -> None:
    assert tokenizer_folder(RECIPES / "tiny.yaml") == TINY


def test_a_model_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = tmp_path / "other.yaml"
    text = (RECIPES / "tiny.yaml").read_text(encoding="utf-8").replace("model: tiny", "model: nobody/no-such-model")
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="hf download nobody/no-such-model"):
        tokenizer_folder(recipe)
    recipe.write_text(text.replace("nobody/no-such-model", "tinny"), encoding="utf-8")
    with pytest.raises(UserError, match=f"there is no folder {tmp_path / 'tinny'}") as error:
        tokenizer_folder(recipe)
    assert "hf download" not in error.value.fix, "the hub's names have an owner"


def test_the_fingerprint_sees_every_file_of_the_tokenizer(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(TINY, copy)
    seen = {tokenizer_fingerprint(TINY)}
    assert tokenizer_fingerprint(copy) in seen
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (copy / name).write_text((copy / name).read_text(encoding="utf-8") + " ", encoding="utf-8")
        seen.add(tokenizer_fingerprint(copy))
    (copy / "chat_template.jinja").unlink()
    seen.add(tokenizer_fingerprint(copy))
    assert len(seen) == 5


def test_the_tiny_tokenizer_gives_the_same_ids_by_both_libraries_and_back() -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    auto, plain = (
        AutoTokenizer.from_pretrained(TINY, local_files_only=True),
        Tokenizer.from_file(str(TINY / "tokenizer.json")),
    )
    chance = random.Random(1)
    for _ in range(200):
        text = "".join(chance.choice("abc def 0123\n\t{}\"':,._ßé漢😀XYZ") for _ in range(60))
        ids = auto(text, add_special_tokens=False)["input_ids"]
        assert ids == plain.encode(text, add_special_tokens=False).ids
        assert auto.decode(ids) == text


def test_a_word_is_the_same_token_wherever_it_stands() -> None:
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(TINY, local_files_only=True)
    word = auto("return")["input_ids"]
    for text in ("x return", "(return)", "\n    return 12"):
        ids = auto(text)["input_ids"]
        assert any(ids[i : i + len(word)] == word for i in range(len(ids))), text
    assert len(auto("123")["input_ids"]) == 3


def test_the_chat_template_ends_the_prompt_with_the_assistants_mark() -> None:
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(TINY, local_files_only=True)
    talk = [{"role": "user", "content": " a\n"}, {"role": "assistant", "content": "b "}]
    assert auto.apply_chat_template(talk, tokenize=False) == "<bos><user> a\n<assistant>b <eos>"
    prompt = auto.apply_chat_template(talk[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<bos><user> a\n<assistant>"
    ids = auto(prompt, add_special_tokens=False)["input_ids"]
    assert (ids[0], ids[1], ids[-1]) == (auto.bos_token_id, 3, 4)


def test_a_mimetic_start_attends_to_equal_tokens_and_passes_them_on() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(TINY))
    set_mimetic_attention(model)
    layer = model.model.layers[0].self_attn
    assert torch.equal(layer.q_proj.weight, layer.k_proj.weight)
    passed_on = (layer.o_proj.weight @ layer.v_proj.weight).detach()
    own, other = passed_on.diagonal().mean(), passed_on.fill_diagonal_(0).abs().mean()
    assert own == pytest.approx(0.64, abs=0.1) and own > 5 * other
    with pytest.raises(UserError, match="initial: random"):
        set_mimetic_attention(torch.nn.Linear(2, 2))


def test_checkpoints_are_saved_by_the_clock_or_by_steps_whichever_comes_first() -> None:
    stage = load_recipe(RECIPES / "gemma-2-27b.yaml").stage("stage2")
    assert stage.saves_text == "every 10 minutes"
    assert [stage.steps_between_saves(seconds) for seconds in (0.5, 300.0, 413.6, 2000.0)] == [1200, 2, 2, 1]
    both = stage.model_copy(update={"save_every": 250})
    assert both.saves_text == "every 10 minutes or every 250 steps"
    assert [both.steps_between_saves(seconds) for seconds in (0.5, 413.6)] == [250, 2]
    settings = stage.model_dump() | {"save_minutes": None}
    with pytest.raises(ValueError, match="give save_minutes, save_every, or both"):
        type(stage).model_validate(settings)
