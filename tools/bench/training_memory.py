"""The planner's memory beside what a training really takes.

    python tools/bench/training_memory.py                                    # 2 ranks on CPU, float32
    python tools/bench/training_memory.py --device cuda --dtype bfloat16 --size 1b --length 4096

A random model of one architecture is trained for some steps on random tokens, by the engine that `codeio train` uses,
and the peak of its memory is compared with what `codeio plan train` calculates. On a GPU that is the peak of PyTorch's
allocator. On CPU it is the peak of the process's resident memory, less what was resident after a tiny model had been
trained the same way: libraries, threads and connections are there by then. Freed blocks go back to the system at once
(MALLOC_MMAP_THRESHOLD_), so that resident memory is what lives.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codeio_hpc.config.facts import facts_of
from codeio_hpc.config.recipe import Recipe
from codeio_hpc.train.planner.load import Load, load_of
from codeio_hpc.train.planner.memory import Moment, fullest, moments
from codeio_hpc.train.weights import parameters
from codeio_hpc.train.world import World, free_port

SIZES = {
    "warm-up": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "vocab_size": 256},
    "13m": {"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 4, "vocab_size": 8_000},
    "40m": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "vocab_size": 16_000},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "vocab_size": 128_256},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "vocab_size": 128_256},
}
"""Of config.json. ``1b`` and ``3b`` are the shapes of Llama 3.2, with an output layer of their own."""
EXPERTS = {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1}
LATENT = {"kv_lora_rank": 128, "q_lora_rank": None, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64}
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "gemma2": "Gemma2ForCausalLM",
                 "deepseek_v2": "DeepseekV2ForCausalLM"}  # fmt: skip
STEPS = 3
"""The optimiser's state is there from the second one on."""
MICRO_BATCHES = 2
"""Of a step: gradients are accumulated."""


def model_config(options: argparse.Namespace, size: str) -> Any:
    """A transformers configuration of that size."""
    from transformers import AutoConfig

    shape: dict[str, Any] = {**SIZES[size], "num_attention_heads": 32 if size in ("1b", "3b") else 8}
    shape["num_key_value_heads"] = shape["num_attention_heads"] // (1 if options.architecture == "deepseek_v2" else 4)
    if options.architecture == "gemma2":
        shape["head_dim"] = shape["hidden_size"] // shape["num_attention_heads"]
    if options.architecture == "deepseek_v2":
        shape |= EXPERTS | LATENT | {"moe_intermediate_size": shape["intermediate_size"] // 4}
    tied = options.architecture == "gemma2"
    return AutoConfig.for_model(
        options.architecture,
        **shape,
        tie_word_embeddings=tied,
        max_position_embeddings=32_768,
        architectures=[ARCHITECTURES[options.architecture]],
        use_cache=False,
    )


def train(options: argparse.Namespace, size: str, ranks: Any, length: int, begun: Any) -> Any:
    """Some steps on random tokens, all of which are trained; ``begun()`` is called when the first one begins."""
    import torch
    from transformers import AutoModelForCausalLM

    from codeio_hpc.train.attention import register
    from codeio_hpc.train.engines.deepspeed import DeepSpeedEngine

    register()
    config = model_config(options, size)
    torch.manual_seed(0)
    with ranks.device:
        model = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, options.dtype), attn_implementation=options.attention
        )
    if options.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    recipe = recipe_of(options)
    engine = DeepSpeedEngine(model.train(), recipe, recipe.stage("stage1"), options.dtype, ranks.device)
    del model
    begun()
    applied = 0
    while applied < STEPS:
        for number in range(MICRO_BATCHES):
            micro = random_micro_batch(options.rows, length, config.vocab_size)
            engine.accumulate(micro, len(micro.targets) * MICRO_BATCHES * ranks.size, number == MICRO_BATCHES - 1)
        applied += engine.update(1e-5).applied  # float16 may have to find its loss scale first
    return engine


def random_micro_batch(rows: int, length: int, vocabulary: int) -> Any:
    """Two samples in each row; all tokens but the first of a row are trained."""
    import torch

    from codeio_hpc.train.collate import MicroBatch, borders_of

    ids = torch.randint(0, vocabulary, (rows, length))
    positions = (torch.arange(length) % max(2, length // 2)).repeat(rows, 1)
    predicting = torch.arange(rows * length).view(rows, length)[:, :-1].flatten()
    borders = borders_of(positions.numpy())
    longest = int((borders[1:] - borders[:-1]).max())
    return MicroBatch(ids, positions, predicting, ids[:, 1:].flatten(), torch.from_numpy(borders), longest)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """A recipe with the settings that memory depends on."""
    stage = {"schedule": "constant", "lr": 1e-5, "batch_size": 1, "steps": STEPS, "micro_batch": options.rows}
    return Recipe.model_validate(
        {
            "name": "memory",
            "model": "none",
            "dtype": {options.device: options.dtype},
            "zero": options.zero,
            "attention": options.attention,
            "activation_checkpointing": options.checkpointing,
            "sequence_length": options.length,
            "stages": {"stage1": stage},
        }
    )


def measure(options: argparse.Namespace) -> float:
    """Bytes that this rank's training took at its peak."""
    from codeio_hpc.train.meeting import meet

    rank = int(os.environ["RANK"])
    ranks = meet(World(rank, options.ranks, rank, "127.0.0.1", int(os.environ["MASTER_PORT"])))
    memory: Any = _GpuMemory() if ranks.device.type == "cuda" else _ResidentMemory()
    train(options, "warm-up", ranks, 64, lambda: None).close()
    gc.collect()
    before = memory.now()
    engine = train(options, options.size, ranks, options.length, memory.reset)
    del engine
    return float(memory.peak() - before)


class _GpuMemory:
    """Of tensors, as PyTorch's allocator counts it."""

    def now(self) -> int:
        import torch

        return int(torch.cuda.memory_allocated())

    def reset(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        import torch

        return int(torch.cuda.max_memory_allocated())


class _ResidentMemory:
    """Of this process (proc(5): VmRSS, VmHWM; 5 in clear_refs resets the latter)."""

    def now(self) -> int:
        return self._read("VmRSS")

    def reset(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int:
        return self._read("VmHWM")

    def _read(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
        assert found, f"the kernel does not tell {name}"
        return 1024 * int(found[1])


def planned(options: argparse.Namespace) -> Load:
    """What the planner is asked."""
    facts = facts_of(model_config(options, options.size).to_dict(), options.size)
    return load_of(recipe_of(options), "stage1", facts, options.ranks, options.device, accumulates=MICRO_BATCHES > 1)


def run_ranks(options: argparse.Namespace) -> float:
    """Measure in processes of their own; the rank that took most."""
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "MALLOC_MMAP_THRESHOLD_": "65536",
                 "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # fmt: skip
    if options.device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for rank in range(options.ranks):
            command = [sys.executable, __file__, *sys.argv[1:], "--result", f"{folder}/{rank}"]
            environment = {**os.environ, **variables, "RANK": str(rank), "WORLD_SIZE": str(options.ranks)}
            processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        codes = [process.wait() for process in processes]
        if any(codes):
            raise SystemExit(f"ranks ended with {codes}")
        return max(float(path.read_text(encoding="ascii")) for path in Path(folder).iterdir())


def table(load: Load, found: Moment, measured: float) -> str:
    """Planned and measured, in MB."""
    lines = [f"{parameters(load.facts):,} parameters, {load.ranks} ranks, {load.dtype}, {load.device}; MB a rank:"]
    lines += [f"  {moment.name:<28}{moment.bytes / 1e6:>10,.1f}" for moment in moments(load)]
    lines += [f"parts of the fullest, {found.name}:"]
    lines += [f"  {part.name:<28}{part.bytes / 1e6:>10,.1f}   {part.how}" for part in found.parts]
    lines += [f"  {'planned':<28}{found.bytes / 1e6:>10,.1f}", f"  {'measured':<28}{measured / 1e6:>10,.1f}"]
    return "\n".join([*lines, f"  {'planned / measured':<28}{found.bytes / measured:>10.3f}"])


def result(load: Load, found: Moment, measured: float) -> Mapping[str, Any]:
    return {
        "parameters": parameters(load.facts),
        "moment": found.name,
        "parts": {part.name: part.bytes for part in found.parts},
        "planned": found.bytes,
        "measured": measured,
        "ratio": found.bytes / measured,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--ranks", type=int, help="default: 2 on CPU, 1 on a GPU")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="default: float32; bfloat16 on a GPU"
    )
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="llama")
    parser.add_argument("--size", choices=sorted(SIZES), default="40m")
    parser.add_argument("--attention", default="sdpa", choices=("sdpa", "varlen", "eager"))
    parser.add_argument("--zero", type=int, choices=(2, 3), default=2)
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--rows", type=int, default=1, help="sequences of a micro-batch")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.ranks = options.ranks or (2 if options.device == "cpu" else 1)
    options.dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    if options.result:
        options.result.write_text(str(measure(options)), encoding="ascii")
        os._exit(0)  # threads of gloo that the interpreter's teardown meets may abort the process
    load = planned(options)
    found, measured = fullest(load), run_ranks(options)
    print(json.dumps(result(load, found, measured), indent=1) if options.json else table(load, found, measured))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
