"""Our training loop beside a bare DeepSpeed loop and Hugging Face's Trainer: seconds a step, side by side in one run.

    python tools/bench/training.py [--model tiny|small|1.5b] [--dtype float32] [--steps 40] [--rounds 3]

The same random model, the same packed sequences, the same optimiser, one rank. Every way runs in a process of its own,
in turns, ``--rounds`` times; of each way the median step of its fastest round counts, the first five steps aside.

  codeio      the loop of ``codeio train``: its engine, agreement at every micro-batch, metrics, watchdog
  bare        DeepSpeed with the same configuration, the model's own loss, nothing else
  trainer     transformers.Trainer with the same sequences, packed with restarting positions

With a GPU, memory is the most that torch had allocated, and MFU is by the floating-point operations of the model's
weights and attention (``codeio_hpc.train.flops``), at the rate that --peak says (TFLOP/s).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
SKIPPED = 5
"""First steps, which compile and allocate."""
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
    | {"num_key_value_heads": 4, "vocab_size": 1024},
    "small": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8}
    | {"num_key_value_heads": 4, "vocab_size": 16384},
    # the shape of Qwen2.5-Coder-1.5B (arXiv 2409.12186, table 1)
    "1.5b": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12}
    | {"num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
}
WAYS = ("codeio", "bare", "trainer")


def main() -> int:
    options = parse()
    if options.way:
        print(json.dumps(one_round(options)))
        return 0
    best: dict[str, dict[str, float]] = {}
    for _ in range(options.rounds):
        for way in options.ways:
            found = run(way)
            if way not in best or found["seconds"] < best[way]["seconds"]:
                best[way] = found
            print(f"{way:8} {found}", file=sys.stderr, flush=True)
    print(json.dumps({"options": vars(options), "ways": best}, indent=1, default=str) if options.json else table(best))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", choices=MODELS, default="tiny")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--sample", type=int, default=128, help="tokens of a sample at most")
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--micro-batches", type=int, default=4, help="of a step")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device, for MFU")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(way: str) -> dict[str, float]:
    """One round of one way, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(ways: dict[str, dict[str, float]]) -> str:
    base = next(iter(ways.values()))["seconds"]
    lines = ["way        seconds a step   ratio   tokens/s      MFU    memory   first loss    last loss"]
    for way, found in ways.items():
        mfu = f"{found['mfu']:.1%}" if found.get("mfu") else "-"
        lines.append(
            f"{way:10} {found['seconds']:14.4f} {found['seconds'] / base:7.3f} {found['tokens_per_second']:10,.0f} "
            f"{mfu:>8} {found['memory'] / 1e9:6.2f} GB {found['first']:12.6f} {found['last']:12.6f}"
        )
    return "\n".join(lines)


def one_round(options: argparse.Namespace) -> dict[str, float]:
    import torch

    torch.manual_seed(0)
    way = {"codeio": codeio, "bare": bare, "trainer": trainer}[options.way]
    with tempfile.TemporaryDirectory() as folder:
        seconds, losses = way(options, Path(folder))
    median = statistics.median(seconds[SKIPPED:])
    tokens = options.length * options.micro_batch * options.micro_batches
    found = {"seconds": median, "tokens_per_second": tokens / median, "first": losses[0], "last": losses[-1]}
    if torch.cuda.is_available():
        found["memory"] = torch.cuda.max_memory_allocated()
        if options.peak:
            found["mfu"] = tokens / median * flops(options) / (options.peak * 1e12)
    else:
        import resource

        found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found


def flops(options: argparse.Namespace) -> float:
    """Of a token; in attention it meets those of its sample, three quarters of the longest on average."""
    from codeio_hpc.config.facts import facts_of
    from codeio_hpc.train.flops import flops_per_token

    config = make_model(options, "meta").config.to_dict() | {"architectures": ["Qwen2ForCausalLM"]}
    return flops_per_token(facts_of(config, options.model), options.sample * 3 // 4)


def make_model(options: argparse.Namespace, device: Any) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from codeio_hpc.train.attention import register

    register()
    config = AutoConfig.for_model("qwen2", max_position_embeddings=options.length, **MODELS[options.model])
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, options.dtype), attn_implementation=options.attention
        )
    if options.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.config.use_cache = False
    return model.train()


def make_recipe(options: argparse.Namespace) -> Any:
    from codeio_hpc.config.recipe import Recipe

    stage = {"schedule": "constant", "lr": 1e-3 if options.model == "tiny" else 1e-4, "steps": options.steps}
    stage |= {"batch_size": options.micro_batch * options.micro_batches, "batch_unit": "sequences"}
    stage |= {"micro_batch": options.micro_batch, "save_minutes": 10**6}
    recipe = {"name": "bench", "model": "none", "initial": "random", "sequence_length": options.length}
    recipe |= {"dtype": {"cpu": options.dtype, "cuda": options.dtype}, "attention": options.attention}
    return Recipe.model_validate(recipe | {"stages": {"stage1": stage}})


def make_corpus(options: argparse.Namespace) -> Any:
    """Full sequences of random samples; the second half of each sample is trained."""
    from codeio_hpc.train.data import Corpus

    chance, count = np.random.RandomState(0), options.steps * options.micro_batch * options.micro_batches
    starts: list[int] = []
    starts_of: list[int] = [0]
    targets = np.zeros((count, options.length), bool)
    for row in range(count):
        place = 0
        while place < options.length:
            length = min(int(chance.randint(options.sample // 2, options.sample + 1)), options.length - place)
            starts.append(place)
            targets[row, place + (length + 1) // 2 : place + length] = True
            place += length
        starts_of.append(len(starts))
    vocabulary = MODELS[options.model]["vocab_size"]
    tokens = (chance.zipf(1.3, count * options.length) % vocabulary).astype(np.int32)
    ends = np.arange(count + 1) * options.length
    trained = targets.sum(1)
    return Corpus(
        tokens, targets.ravel(), ends, np.array(starts, np.int32), np.array(starts_of), trained, trained * 0.0
    )


def meet_alone() -> Any:
    from codeio_hpc.train.meeting import meet
    from codeio_hpc.train.world import find_world

    if options_fake_half():
        from deepspeed.accelerator import get_accelerator

        get_accelerator().is_fp16_supported = lambda: True
    return meet(find_world({}))


def options_fake_half() -> bool:
    """DeepSpeed refuses float16 on CPUs, which can do it, slowly."""
    import torch

    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    return not torch.cuda.is_available()


def codeio(options: argparse.Namespace, folder: Path) -> tuple[list[float], list[float]]:
    from codeio_hpc.launch.notice import Notice
    from codeio_hpc.train.engines.deepspeed import DeepSpeedEngine
    from codeio_hpc.train.loop import Training
    from codeio_hpc.train.metrics import Metrics
    from codeio_hpc.train.plan import TrainingPlan
    from codeio_hpc.train.watchdog import Watchdog

    recipe, ranks = make_recipe(options), meet_alone()
    plan = TrainingPlan(folder, "stage1", 0, recipe, "t", folder, "d", "s", folder, recipe.sequence_length, "i")
    engine = DeepSpeedEngine(make_model(options, ranks.device), recipe, plan.stage, options.dtype, ranks.device)
    training = Training(plan, ranks, Notice(), Watchdog(ranks, 900), engine, make_corpus(options))
    training._metrics = Metrics(folder / "train" / "stage1", 0, options.steps)
    for _ in range(options.steps):
        training._step()
    lines = [json.loads(line) for line in (folder / "train/stage1/metrics.jsonl").read_text().splitlines()]
    return [line["seconds"] for line in lines], [line["loss"] for line in lines]


def bare(options: argparse.Namespace, folder: Path) -> tuple[list[float], list[float]]:
    """As its documentation writes it: the model's own loss, gradients accumulated and averaged by DeepSpeed."""
    import torch

    from codeio_hpc.train.engines.deepspeed import import_deepspeed
    from codeio_hpc.train.engines.zero import engine_config

    ranks, recipe = meet_alone(), make_recipe(options)
    deepspeed = import_deepspeed(ranks.device)
    model = make_model(options, ranks.device)
    stage = recipe.stage("stage1")
    fused = ranks.device.type == "cuda"
    optimiser = torch.optim.AdamW(model.parameters(), lr=stage.lr, betas=stage.betas, weight_decay=0.0, fused=fused)
    config = engine_config(recipe, stage, options.dtype) | {"gradient_accumulation_steps": options.micro_batches}
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimiser, config=config)
    seconds, losses = [], []
    for batch in batches_of(options):
        start = time.monotonic()
        total = 0.0
        for micro in batch:
            tensors = {name: torch.from_numpy(value).to(ranks.device) for name, value in micro.items()}
            loss = engine(**tensors, use_cache=False).loss
            engine.backward(loss)
            engine.step()
            total = total + loss.detach()
        losses.append(float(total) / len(batch))
        seconds.append(time.monotonic() - start)
    return seconds, losses


def batches_of(options: argparse.Namespace) -> list[list[dict[str, Any]]]:
    """The same batches as Hugging Face's models take them."""
    from codeio_hpc.train.data import Batches

    corpus, size = make_corpus(options), options.micro_batch
    batches = Batches(np.ones(len(corpus), np.int64), size * options.micro_batches, 0)
    rows = [batches.batch(step) for step in range(options.steps)]
    return [[micro_of(corpus, row[i : i + size], options) for i in range(0, len(row), size)] for row in rows]


def micro_of(corpus: Any, numbers: Any, options: argparse.Namespace) -> dict[str, Any]:
    shape = (len(corpus), options.length)
    ids = corpus.tokens.reshape(shape)[numbers].astype(np.int64)
    labels = np.where(corpus.targets.reshape(shape)[numbers], ids, -100)
    positions = np.tile(np.arange(options.length), (len(numbers), 1))
    for row, number in enumerate(numbers):
        for start in corpus.starts[corpus.start_offsets[number] : corpus.start_offsets[number + 1]]:
            positions[row, start:] = np.arange(options.length - start)
    return {"input_ids": ids, "position_ids": positions, "labels": labels}


def trainer(options: argparse.Namespace, folder: Path) -> tuple[list[float], list[float]]:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ends = [time.monotonic()]

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.monotonic())

    options_fake_half()
    rows = [row for batch in batches_of(options) for micro in batch for row in _rows(micro)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=options.micro_batch,
        gradient_accumulation_steps=options.micro_batches,
        max_steps=options.steps,
        learning_rate=make_recipe(options).stage("stage1").lr,
        lr_scheduler_type="constant",
        adam_beta2=0.95,
        max_grad_norm=1.0,
        bf16=options.dtype == "bfloat16",
        fp16=options.dtype == "float16",
        use_cpu=not torch.cuda.is_available(),
        optim="adamw_torch_fused" if torch.cuda.is_available() else "adamw_torch",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
        gradient_checkpointing=options.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )
    clock = Clock()
    torch.manual_seed(0)
    master = argparse.Namespace(**{**vars(options), "dtype": "float32"})  # as DeepSpeed's optimiser has them
    made = Trainer(model=make_model(master, arguments.device), args=arguments, train_dataset=rows, callbacks=[clock])
    made._get_train_sampler = lambda *_: None  # in the given order
    made.train()
    losses = [float(line["loss"]) for line in made.state.log_history if "loss" in line]
    return [b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False)], losses


def _rows(micro: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: value[row].tolist() for name, value in micro.items()} for row in range(len(micro["input_ids"]))]


if __name__ == "__main__":
    sys.exit(main())
