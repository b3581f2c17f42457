"""codeio plan train: verdicts, hours, checkpoints, lost work, and what is wrong with a question."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.cli import main
from codeio_hpc.config.site import Preemption, ResourceClasses, Resources, Site
from codeio_hpc.errors import UserError
from codeio_hpc.launch.doctor.planner import interval_seconds
from codeio_hpc.train.planner.course import COPY_BYTES, MFU, MFU_OF_MIXTURES, RESTART_SECONDS, WRITE_BYTES, lost_share
from codeio_hpc.train.planner.forecast import Data, Given, plan_training
from codeio_hpc.train.planner.forecast_text import forecast_text
from codeio_hpc.train.planner.hardware import GPUS, Cluster, cluster_of
from codeio_hpc.train.planner.tokens import PACKED, assumed_tokens
from codeio_hpc.train.weights import parameters
from tests.train.test_weights import RECIPES, facts_of_recipe
from tests.train.tiny_run import make_run, sequence

PAPER = Data(samples=3_520_000, tokens_per_sample=500.0)


def plan(
    name: str, nodes: int = 1, *overrides: str, gpu: str = "a100-80", data: Data = PAPER, given: Given | None = None
) -> dict[str, Any]:
    cluster = Cluster(nodes, 2 if name == "tiny" else 8, GPUS[gpu])
    return plan_training(RECIPES / f"{name}.yaml", overrides, None, cluster, data, given or Given())


# -- memory ------------------------------------------------------------------------------------------------------------


def test_gemma_does_not_fit_with_zero_2_on_16_gpus_and_the_plan_says_what_would() -> None:
    found = plan("gemma-2-27b", 2)
    memory = found["stages"]["stage1"]["memory"]
    assert found["deepspeed_estimate"] == pytest.approx(85.1e9, rel=0.001)
    assert memory["fits"] is False
    assert memory["left"] == found["cluster"]["usable"] - memory["bytes"] < -10e9
    for change in memory["changes"]:
        words = change["how"].split()
        overrides = [word for word in words if "=" in word]
        nodes = int(words[words.index("--nodes") + 1]) if "--nodes" in words else 2
        gpu = words[words.index("--gpu") + 1] if "--gpu" in words else "a100-80"
        changed = plan("gemma-2-27b", nodes, *overrides, gpu=gpu)["stages"]["stage1"]["memory"]
        assert changed["fits"], change
        assert changed["bytes"] == pytest.approx(change["bytes"])
    assert {change["how"].split()[0] for change in memory["changes"]} >= {"zero=3", "--nodes", "--gpu"}


def test_fewest_nodes_are_named() -> None:
    [nodes] = [
        int(change["how"].split()[1])
        for change in plan("gemma-2-27b", 2)["stages"]["stage1"]["memory"]["changes"]
        if change["how"].startswith("--nodes")
    ]
    assert not plan("gemma-2-27b", nodes - 1)["stages"]["stage1"]["memory"]["fits"]


@pytest.mark.parametrize("name", ["qwen2.5-coder-7b", "llama-3.1-8b", "deepseek-coder-v2-lite"])
def test_the_other_three_fit_on_one_node(name: str) -> None:
    memory = plan(name)["stages"]["stage1"]["memory"]
    assert memory["fits"] and not memory["changes"]


def test_what_no_single_setting_cures_is_cured_by_all_together() -> None:
    memory = plan("gemma-2-27b", 1, "stages.stage1.micro_batch=4", gpu="a100-40")["stages"]["stage1"]["memory"]
    assert any(change["how"].count("=") == 3 for change in memory["changes"])


def test_parts_add_up_and_the_fullest_moment_is_the_fullest() -> None:
    memory = plan("llama-3.1-8b")["stages"]["stage1"]["memory"]
    assert sum(part["bytes"] for part in memory["parts"]) == memory["bytes"] == max(memory["moments"].values())
    assert memory["moments"][memory["moment"]] == memory["bytes"]


# -- time --------------------------------------------------------------------------------------------------------------


def test_hours_are_tokens_times_work_over_speed() -> None:
    course = plan("qwen2.5-coder-7b", given=Given(mfu=0.4))["stages"]["stage1"]["course"]
    assert course["steps"] == 3438
    assert course["tokens"] == pytest.approx(3438 * 1024 * 500)
    busy_hours = course["tokens"] * course["flops_a_token"] / (8 * 312e12 * 0.4) / 3600
    assert course["hours"] * course["busy"] == pytest.approx(busy_hours)
    assert course["hours"] == pytest.approx(course["gpu_hours"] / 8)
    assert course["tokens_a_second_and_gpu"] == pytest.approx(course["tokens"] / course["hours"] / 3600 / 8)


def test_micro_batches_that_some_ranks_lack_are_waited_for() -> None:
    """1,024 samples of 500 tokens are 125.3 sequences: three rounds on 48 GPUs, the last for 29 of them."""
    course = plan("qwen2.5-coder-7b", 6)["stages"]["stage1"]["course"]
    assert course["micro_batches"] == 3
    assert course["busy"] == pytest.approx(course["sequences_a_step"] / 144)


def test_a_stage_that_counts_sequences_needs_no_data_and_one_in_epochs_does() -> None:
    stages = plan("qwen2.5-coder-7b", data=Data())["stages"]
    assert stages["stage1"]["course"] is None
    course = stages["stage2"]["course"]
    assert (course["steps"], course["sequences_a_step"], course["epochs"]) == (700, 1024, None)
    assert course["tokens"] == pytest.approx(700 * 1024 * 4096 * PACKED)


def test_mixtures_are_assumed_to_be_slower() -> None:
    assert plan("qwen2.5-coder-7b")["assumed"]["mfu"] == MFU
    assert plan("deepseek-coder-v2-lite")["assumed"]["mfu"] == MFU_OF_MIXTURES


def test_assumed_samples_are_packed() -> None:
    tokens = assumed_tokens(1000, 409.6, 4096)
    assert (tokens.samples, tokens.tokens) == (1000, 409_600)
    assert tokens.sequences == round(100 / PACKED)


# -- tokens of a run ---------------------------------------------------------------------------------------------------


def test_tokens_of_a_run_are_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    found = plan_training(tmp_path / "recipe.yaml", (), None, Cluster(1, 2, GPUS["cpu"]), Data(run=run), Given())
    rows = [sequence(number, "stage1") for number in range(16)]
    lengths = []
    for row in rows:
        borders = [*row["starts"], len(row["input_ids"])]
        lengths += [end - begin for begin, end in pairwise(borders)]
    data = found["stages"]["stage1"]["data"]
    assert data["samples"] == len(lengths)
    assert data["sequences"] == 16
    assert data["tokens"] == sum(lengths)
    assert data["trained"] == sum(sum(row["trained"]) for row in rows)
    assert data["lengths"]["longest"] == max(lengths)
    assert data["lengths"]["50%"] == sorted(lengths)[(len(lengths) - 1) // 2]
    assert "recipe" not in data["source"]


def test_tokens_of_another_tokenizer_are_told_as_such(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    found = plan("tiny", data=Data(run=run), gpu="h100")
    assert "tokenizer of recipe test" in found["stages"]["stage2"]["data"]["source"]


def test_a_run_that_is_not_complete_cannot_be_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    part = next((run / "stages").glob("*-tokenise/part-00001.parquet"))
    content = part.read_bytes()
    part.unlink()
    with pytest.raises(UserError, match="1 of 2 shards are tokenised"):
        plan("tiny", data=Data(run=run))
    part.write_bytes(content[:-40])
    with pytest.raises(UserError, match="part-00001"):
        plan("tiny", data=Data(run=run))
    with pytest.raises(UserError, match=r"no run\.json"):
        plan("tiny", data=Data(run=tmp_path))


# -- checkpoints and preemption ----------------------------------------------------------------------------------------


def test_a_checkpoint_is_the_weights_and_the_optimisers_state() -> None:
    found = plan("llama-3.1-8b", 2)
    count = parameters(facts_of_recipe("llama-3.1-8b"))
    checkpoints = found["stages"]["stage1"]["checkpoints"]
    assert checkpoints["bytes"] == 14 * count
    assert checkpoints["write_seconds"] == 14 * count / WRITE_BYTES
    assert checkpoints["waiting_seconds"] == (2 * count + 12 * count / 16) / COPY_BYTES
    assert checkpoints["host_bytes"] == 2 * count + 8 * 12 * count / 16
    assert checkpoints["kept_bytes"] == 3 * checkpoints["bytes"]
    assert plan("tiny", gpu="cpu")["stages"]["stage1"]["checkpoints"]["bytes"] == 16 * 320_736


def test_the_interval_is_youngs_and_the_loss_least_there() -> None:
    given = Given(preemptions_per_day=6.0)
    stage = plan("llama-3.1-8b", 2, given=given)["stages"]["stage1"]
    step, checkpoints, preemption = stage["course"]["step_seconds"], stage["checkpoints"], stage["preemption"]
    best = max(interval_seconds(checkpoints["waiting_seconds"], 4.0), checkpoints["write_seconds"])
    assert preemption["best_save_every"] == round(best / step)
    every = preemption["best_save_every"] * step
    losses = [lost_share(every * factor, checkpoints, 4 * 3600.0) for factor in (0.5, 1.0, 2.0)]
    assert losses[1] == min(losses) == preemption["best_lost_share"] < preemption["lost_share"]
    restart = RESTART_SECONDS + 2 * checkpoints["write_seconds"]
    expected = checkpoints["waiting_seconds"] / every + (every / 2 + restart) / (4 * 3600)
    assert losses[1] == pytest.approx(expected)


def test_a_site_that_preempts_nobody_loses_only_the_time_of_saving() -> None:
    preemption = plan("llama-3.1-8b", given=Given(preemptions_per_day=0.0))["stages"]["stage1"]["preemption"]
    assert preemption["per_day"] == 0
    assert preemption["lost_share"] < 0.01


# -- cluster and bad questions -----------------------------------------------------------------------------------------


def site(gpu_type: str | None = "a100-80gb", mode: str = "off") -> Site:
    train = Resources(
        time="8h", nodes=4, ranks_per_node=4, gpus_per_node=4, gpu_type=gpu_type, preemption=Preemption(mode=mode)
    )
    return Site(name="here", resources=ResourceClasses(cpu=Resources(time="1h"), train=train))


def test_nodes_gpus_and_preemption_come_from_the_site() -> None:
    found = cluster_of(None, None, None, None, None, site())
    assert (found.nodes, found.gpus_per_node, found.gpu, found.is_preempted) == (4, 4, GPUS["a100-80"], False)
    assert cluster_of(8, None, "h200", None, None, site()).gpu == GPUS["h200"]
    assert cluster_of(8, None, None, None, None, site(mode="requeue")).is_preempted
    with pytest.raises(UserError, match="no GPU is named"):
        cluster_of(None, None, None, None, None, site("a100"))
    bare = Site(name="bare", resources=ResourceClasses(cpu=Resources(time="1h")))
    with pytest.raises(UserError, match="no class 'train'"):
        cluster_of(None, None, None, None, None, bare)


def test_a_gpu_that_is_not_known_is_described_by_numbers() -> None:
    found = cluster_of(1, 8, None, 48e9, 362.0, None)
    assert (found.gpu.memory, found.gpu.flops) == (48e9, 362e12)
    assert (found.gpu.usable or 0) < 45e9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gpu", "a100-80", "--nodes", "0"], "--nodes 0"),
        (["--gpu", "a100-80", "--gpus-per-node", "-1"], "--gpus-per-node -1"),
        (["--gpu", "rtx-9999"], "--gpu rtx-9999"),
        ([], "no GPU is named"),
        (["--gpu-memory", "0"], "--gpu-memory 0"),
        (["--gpu", "h100", "--mfu", "40"], "--mfu 40"),
        (["--gpu", "h100", "--bandwidth", "0"], "--bandwidth 0"),
        (["--gpu", "h100", "--preemptions-per-day", "-1"], "--preemptions-per-day -1"),
        (["--gpu", "h100", "--samples", "0", "--tokens-per-sample", "10"], "--samples 0"),
        (["--gpu", "h100", "--samples", "10", "--tokens-per-sample", "9000"], "--tokens-per-sample 9000"),
        (["--gpu", "h100", "--stage", "stage2", "--nodes", "500"], "a batch of 1,024 sequences for 4,000 ranks"),
        (["--gpu", "h100", "--stage", "stage1", "sequence_length=40000"], "sequence_length of 40,000 (stage1)"),
        (["--gpu", "h100", "zero=4"], "'zero' is 4"),
        (["--gpu", "h100", "--site", "nowhere"], "site 'nowhere'"),
        (["--gpu", "h100", "--run", "/nonexistent"], "no run.json"),
    ],
)
def test_a_wrong_question_is_an_error_with_a_way_out(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "train", "qwen2.5-coder-7b", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and "why:" in error and "fix:" in error


def test_a_stage_that_cannot_be_trained_so_is_told_beside_those_that_can() -> None:
    found = plan("qwen2.5-coder-7b", 15)
    assert found["stages"]["rft"]["problem"]["found"] == "rft: a batch of 64 sequences for 120 ranks x 1"
    assert "CANNOT BE TRAINED SO: rft" in forecast_text(found)
    assert found["stages"]["stage1"]["problem"] is None


def test_a_recipe_without_facts_takes_them_from_the_models_folder(tmp_path: Path) -> None:
    recipe = (RECIPES / "tiny.yaml").read_text(encoding="utf-8")
    head, _, rest = recipe.partition("facts:\n")
    bare = head.replace("model: tiny", f"model: {RECIPES / 'tiny'}") + rest[rest.index("dtype:") :]
    (tmp_path / "bare.yaml").write_text(bare, encoding="utf-8")
    found = plan_training(tmp_path / "bare.yaml", (), None, Cluster(1, 1, GPUS["cpu"]), Data(), Given())
    assert found["parameters"] == 320_736
    with pytest.raises(UserError, match="no facts"):
        plan_training(tmp_path / "bare.yaml", ["model=some/where"], None, Cluster(1, 1, GPUS["cpu"]), Data(), Given())


def test_gemma_with_sdpa_is_refused_as_training_refuses_it() -> None:
    with pytest.raises(UserError, match="sdpa"):
        plan("gemma-2-27b", 8, "attention=sdpa")
    with pytest.raises(UserError, match="varlen"):
        plan("gemma-2-27b", 8, "attention=varlen")


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_the_text_shows_the_arithmetic_and_the_verdict() -> None:
    text = forecast_text(plan("gemma-2-27b", 2))
    assert "2 P + 18 P / N: 85.1" in text
    assert "DOES NOT FIT: " in text
    assert "fits with zero=3" in text
    assert "P = 27,227,128,320 parameters" in text
    assert max(map(len, text.splitlines())) <= 130
    on_cpu = forecast_text(plan("tiny", gpu="cpu"))
    assert "CPUs differ too much for a guess; give --gpu-tflops" in on_cpu and "give --gpu or" not in on_cpu
    assert "at its fullest, MB:" in on_cpu


def test_what_only_just_fits_is_told_as_such() -> None:
    assert "fits narrowly" not in forecast_text(plan("llama-3.1-8b"))
    assert "fits, narrowly" in forecast_text(plan("gemma-2-27b", 8))


def test_the_command_prints_json_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = tmp_path / "plan.svg"
    arguments = ["plan", "train", "llama-3.1-8b", "--gpu", "a100-80", "--nodes", "2", "--json", "--plot", str(drawn)]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cluster"]["gpus"] == 16
    assert found["stages"]["stage2"]["memory"]["fits"] is True
    image = ElementTree.parse(drawn).getroot()
    texts = [element.text for element in image.iter("{http://www.w3.org/2000/svg}text")]
    assert "llama-3.1-8b" in texts and "what fits: 80 GB" in texts
