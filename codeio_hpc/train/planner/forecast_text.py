"""A plan of a training, for people, with its arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from codeio_hpc.launch.progress import clock

_WIDTH = 40
"""Of the longest bar."""

_NARROW = 0.05
"""Of what is needed: the plan itself is not more exact than that."""
_ONCE = ("data", "checkpoints")
"""Of a stage: not said again if it is the same as before."""

Plan = Mapping[str, Any]


def forecast_text(plan: Plan) -> str:
    """The lines that tell what :func:`codeio_hpc.train.planner.forecast.forecast` found; what is the same for several
    stages stands once."""
    lines = [*_head(plan)]
    stages = plan["stages"]
    for name, stage in stages.items():
        same = [other for other, each in stages.items() if each["memory"] == stage["memory"]]
        if same[0] == name:
            lines += _memory(plan, stage, ", ".join(same))
    said: list[Any] = []
    for name, stage in stages.items():
        lines += _course(plan, name, {**stage, **{key: None for key in _ONCE if stage[key] in said}})
        said += [stage[key] for key in _ONCE]
    return "\n".join([*lines, *_assumptions(plan)])


def _head(plan: Plan) -> Iterator[str]:
    cluster = plan["cluster"]
    nodes = f"{cluster['nodes']:,} node{'s' * (cluster['nodes'] > 1)} x {cluster['gpus_per_node']} {cluster['name']}"
    yield f"plan of training {plan['recipe']} on {nodes}"
    recomputed = ", activations recomputed" if plan["activation_checkpointing"] else ""
    yield f"  {plan['dtype']}, ZeRO-{plan['zero']}, attention {plan['attention']}{recomputed}"
    active = plan["active_parameters"]
    some = f", of which a token meets {active:,}" if active < plan["parameters"] else ""
    yield f"  P = {plan['parameters']:,} parameters{some}; N = {cluster['gpus']:,} ranks"


def _memory(plan: Plan, stage: Plan, names: str) -> Iterator[str]:
    memory, usable = stage["memory"], plan["cluster"]["usable"]
    rows = f", {stage['micro_batch']} at a time" if stage["micro_batch"] > 1 else ""
    unit, name = (1e9, "GB") if memory["bytes"] >= 1e9 else (1e6, "MB")
    yield f"  {names}: sequences of {stage['sequence_length']:,} tokens{rows}; memory of a rank at its fullest, {name}:"
    full = max(memory["bytes"], usable or 0)
    for part in memory["parts"]:
        bar = "█" * round(_WIDTH * part["bytes"] / full)
        yield f"    {part['name']:<24}{part['how']:<28}{part['bytes'] / unit:>8.2f}  {bar}".rstrip()
    of = ""
    if usable is not None:
        of = f", of {usable / 1e9:.1f} GB"
        if usable < plan["cluster"]["memory"]:
            of += f" ({plan['cluster']['memory'] / 1e9:.1f} less CUDA's context, buffers, fragmentation)"
    yield f"    {memory['moment']}: {memory['bytes'] / unit:.1f} {name}{of}"
    if usable is not None:
        yield from _verdict(memory)
    others = [f"{when} {size / unit:.1f}" for when, size in memory["moments"].items() if when != memory["moment"]]
    yield f"    at other moments: {', '.join(others)}"
    if plan["dtype"] == "float32":
        return
    formula = "18 P / N, without gathered weights" if plan["zero"] == 3 else "2 P + 18 P / N"
    yield f"    (DeepSpeed's own estimate of 16-bit model states, {formula}: {plan['deepspeed_estimate'] / unit:.1f})"


def _verdict(memory: Plan) -> Iterator[str]:
    if memory["fits"]:
        narrowly = ", narrowly" if memory["left"] < _NARROW * memory["bytes"] else ""
        yield f"    fits{narrowly}, with {memory['left'] / 1e9:.1f} GB to spare"
        return
    yield f"    DOES NOT FIT: {-memory['left'] / 1e9:.1f} GB too much"
    if not memory["changes"]:
        yield "      and nothing that this planner knows makes it fit"
    for change in memory["changes"]:
        yield f"      fits with {change['how']} ({change['bytes'] / 1e9:.1f} GB)"


def _course(plan: Plan, name: str, stage: Plan) -> Iterator[str]:
    yield f"  {name}:"
    if stage["problem"]:
        problem = stage["problem"]
        yield f"    CANNOT BE TRAINED SO: {problem['found']}: {problem['why']}; {problem['fix']}"
    if stage["data"]:
        yield from (f"    {line}" for line in _data(stage["data"]))
    if stage["course"]:
        yield from (f"    {line}" for line in _time(plan, stage["course"], stage["micro_batch"]))
    elif plan["cluster"]["flops"] is None:
        if plan["cluster"]["device"] == "cpu":
            yield "    hours: CPUs differ too much for a guess; give --gpu-tflops, the peak of a rank's cores"
        else:
            yield "    hours: how fast the GPU is is not known; give --gpu or --gpu-tflops"
    else:
        yield "    hours: how much there is to train on is not known; give --run, or --samples and --tokens-per-sample"
    if stage["checkpoints"]:
        yield from (f"    {line}" for line in _checkpoints(stage["checkpoints"]))
    if stage["preemption"]:
        yield from (f"    {line}" for line in _preemption(stage["preemption"], stage["course"]))


def _data(data: Plan) -> Iterator[str]:
    trained = f" ({data['trained']:,} trained)" if data["trained"] is not None else ""
    yield f"{data['samples']:,} samples, {data['tokens']:,} tokens{trained}, {data['sequences']:,} packed sequences"
    if data["lengths"]:
        yield "tokens of a sample: " + ", ".join(f"{name} {count:,}" for name, count in data["lengths"].items())
    yield data["source"]


def _time(plan: Plan, course: Plan, rows: int) -> Iterator[str]:
    epochs = f", {course['epochs']:.2f} epochs" if course["epochs"] is not None else ""
    yield (
        f"{course['steps']:,} steps of {course['sequences_a_step']:,.1f} sequences: {_scaled(course['tokens'])} "
        f"tokens{epochs}"
    )
    peak = f"{_scaled(plan['cluster']['flops'])}FLOP/s x MFU {plan['assumed']['mfu']:g}"
    at_a_time = f" x {rows} sequences" if rows > 1 else ""
    yield (
        f"a step: {course['micro_batches']:,} micro-batches a rank{at_a_time} x {course['tokens_a_sequence']:,.0f} "
        f"tokens x {_scaled(course['flops_a_token'])}FLOP / ({peak}) = {course['step_seconds']:,.1f} s"
    )
    if course["busy"] < 0.995:
        yield f"ranks wait {1 - course['busy']:.1%} of the time: a step's last micro-batches are not enough for all"
    yield (
        f"{_hours(course['hours'])}, {course['gpu_hours']:,.1f} GPU-hours; "
        f"{course['tokens_a_second_and_gpu']:,.0f} tokens a second and GPU"
    )


def _checkpoints(checkpoints: Plan) -> Iterator[str]:
    yield (
        f"a checkpoint: {_scaled(checkpoints['bytes'])}B, copied in {checkpoints['waiting_seconds']:,.1f} s while "
        f"training waits, written in {checkpoints['write_seconds']:,.0f} s meanwhile"
    )
    disk, host = _scaled(checkpoints["kept_bytes"]), _scaled(checkpoints["host_bytes"])
    yield f"on disk {disk}B of them at most, and {host}B in the memory of the first node"


def _preemption(preemption: Plan, course: Plan) -> Iterator[str]:
    if not preemption["per_day"]:
        lost = f"{preemption['lost_share']:.2%} of the time"
        yield f"never preempted; saving every {_steps(preemption['save_every'])} takes {lost}"
        return
    yield f"preempted {preemption['per_day']:g} times a day, without a warning in time, and saved"
    for kind, every, lost in (
        ("as in the recipe", preemption["save_every"], preemption["lost_share"]),
        (
            f"best by Young/Daly: save_minutes={preemption['best_save_minutes']:.3g}",
            preemption["best_save_every"],
            preemption["best_lost_share"],
        ),
    ):
        left = f"{lost:.1%} lost, {_hours(course['hours'] / (1 - lost))}" if lost < 1 else "more lost than done"
        yield f"  every {_steps(every)} ({clock(every * course['step_seconds'])}, {kind}): {left}"


def _steps(count: int) -> str:
    return "step" if count == 1 else f"{count:,} steps"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{clock(3600 * hours)} min"


def _scaled(value: float) -> str:
    """Three digits and the letter of a power of a thousand."""
    for letter in ("", "k", "M", "G"):
        if value < 999.5:
            return f"{value:.3g} {letter}"
        value /= 1000
    return f"{value:,.4g} T"


def _assumptions(plan: Plan) -> Iterator[str]:
    assumed = plan["assumed"]
    text = (
        f"assumed: --mfu {assumed['mfu']:g} --bandwidth {assumed['write_bytes']:g} "
        f"--preemptions-per-day {assumed['preemptions_per_day']:g}"
    )
    yield from wrap(text, 116, initial_indent="  ", subsequent_indent="    ")
