"""Recipes and the tiny model's folder."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from codeio_hpc.config.recipe import load_recipe
from codeio_hpc.config.tokenizer import tokenizer_fingerprint, tokenizer_folder
from codeio_hpc.errors import UserError
from codeio_hpc.train.models import set_mimetic_attention

RECIPES = Path(__file__).parents[2] / "configs" / "models"
TINY = RECIPES / "tiny"


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("qwen2.5-coder-7b", 1e-5, (3e-5, 1e-6)),
        ("llama-3.1-8b", 1e-5, (3e-5, 1e-6)),
        ("deepseek-coder-v2-lite", 1e-5, (3e-5, 1e-6)),
        ("gemma-2-27b", 4e-6, (1e-5, 3e-7)),
    ],
)
def test_the_papers_recipes_have_the_papers_numbers(name: str, first: float, second: tuple[float, float]) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    one, two = recipe.stages.stage1, recipe.stages.stage2
    assert (one.schedule, one.lr, one.batch_size, one.batch_unit, one.epochs) == ("constant", first, 1024, "samples", 1)
    assert (two.schedule, two.lr, two.min_lr, two.batch_size, two.steps) == ("cosine", *second, 1024, 700)
    assert (one.betas, one.clip, one.warmup_steps, recipe.sequence_length) == ((0.9, 0.95), 1.0, 0, 4096)


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
