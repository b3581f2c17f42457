"""sample: draw inputs of a function, execute them again and again in the sandbox, and keep the pairs that reproduce."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from codeio_hpc.config.run import RunConfig
from codeio_hpc.sandbox.sizes import oversize, oversize_call
from codeio_hpc.sandbox.values import dump_json
from codeio_hpc.stages.base import Context, MapStage, Rejection, SandboxUnavailableError
from codeio_hpc.stages.branches import MEASURED, Measured, Reading, measured
from codeio_hpc.stages.flags import function_flags, is_leaking
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import FUNCTIONS, PAIRS, Table

if TYPE_CHECKING:
    from codeio_hpc.sandbox import Execution, FunctionResult

_COUNTED_SECONDS = 1.0
"""CPU time of an execution, at most, while branches are counted."""
_ROUNDS = 2
"""Confirmations at most: of the pairs chosen, then of spare ones in place of those that did not reproduce."""


_Drop = Callable[..., None]
"""Called with input, reason and, perhaps, a detail of a pair that is given up."""


@dataclass(frozen=True)
class _Pair:
    """One execution that has passed everything so far, in canonical JSON."""

    input: str
    output: str
    tier: str = "standard"
    branches: frozenset[int] = frozenset()
    steps: int | None = None


class Sample(MapStage):
    """Inputs come from the function's generator, seeded by the function's id; what is stored is what was executed.

    Every input is executed again in another process, under another hash seed and another seed of ``random`` (code
    that names sets or hashes: under three more); a pair whose outcomes differ is dropped as ``nondeterministic``. A
    call that fails costs its pair alone: a rejected candidate with the verdict as its reason (also too_large,
    none_output, leaking by setting, and surplus for good pairs beyond the number wanted). Of more good pairs than are
    wanted, those are kept that take branches and give outputs which no other does. A function with fewer than
    ``min_pairs`` is rejected as ``too_few_pairs``, one with a flag that is not wanted as that flag.
    """

    name: ClassVar[str] = "sample"
    version: ClassVar[int] = 3
    input: ClassVar[Table] = FUNCTIONS
    output: ClassVar[Table] = PAIRS

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {"seed": config.seed, **config.sample.model_dump(mode="json")}

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        for done, row in enumerate(rows, start=1):
            yield from _function(row, context)
            context.advance(done)


def _function(row: Row, context: Context) -> Iterator[Row | Rejection]:
    settings = context.config.sample
    dropped: dict[str, Rejection] = {}
    reasons: Counter[str] = Counter()

    def drop(input_text: str, reason: str, detail: str = "") -> None:
        reasons[reason] += 1
        identity = PAIRS.row_id(row["function_id"], input_text)
        dropped.setdefault(identity, Rejection(identity, reason, detail[:500], parent_id=row["function_id"]))

    counted = measured(row["code"], row["entry_point"])
    first, counted, problem = _draw(row, counted, context)
    found = [_accept(execution, counted, row, context, drop) for execution in first]
    pairs = _confirmed(row, [pair for pair in found if pair is not None], context, drop)
    flags = function_flags([(pair.input, pair.output) for pair in pairs]) if pairs else []
    unwanted = next((flag for flag in flags if flag in settings.reject), None)
    if len(pairs) < settings.min_pairs:
        for pair in pairs:
            drop(pair.input, "too_few_pairs", "good, but too few of its function are")
        yield Rejection(row["function_id"], "too_few_pairs", _why(reasons, len(pairs), problem))
    elif unwanted is not None:
        for pair in pairs:
            drop(pair.input, unwanted, "its function is not wanted")
        yield Rejection(row["function_id"], unwanted, f"{len(pairs)} good pairs")
    else:
        yield from _rows(row, pairs, flags, counted, context)
        context.counts["verdict:ok"] += len(pairs)
    for reason, count in sorted(reasons.items()):
        context.counts[f"verdict:{reason}"] += count
    yield from dropped.values()


def _why(reasons: Counter[str], kept: int, problem: str) -> str:
    """The dominating reason first, then the number of good pairs."""
    worst = max(sorted(reasons), key=lambda reason: reasons[reason], default="no_input")
    return f"{worst}; {kept} good pairs" + (f"; {problem}" if problem else "")


def _draw(row: Row, counted: Measured | None, context: Context) -> tuple[list[Execution], Measured | None, str]:
    """The generator's inputs, executed under hash seed 0; the copy of the code that counts, if it was that which ran;
    and what went wrong with the generator, if anything did.

    That the copy does the same is seen when the code itself is executed next. Counting makes slow code slower: what is
    not quick with it runs as it is, uncounted, so that no measure costs a pair.
    """
    from codeio_hpc.sandbox import Generator

    settings = context.config.sample
    generator = Generator(
        code=row["generator"],
        count=settings.pairs + settings.spare,
        attempts=settings.attempts,
        seed=context.seed(row["function_id"]),
    )
    most = settings.most_cpu_seconds
    if counted is not None:
        code = {"code": counted.code, "entry_point": MEASURED}
        result = _run(row, context, 0, min(most, _COUNTED_SECONDS), generator=generator, **code)
        counted = counted if _was_quick(result) else None
    if counted is None:
        result = _run(row, context, 0, most, generator=generator)
    generation = result.generation
    problem = ""
    if generation is not None and not (generation.verdict == "ok" and result.results):
        problem = f"the input generator: {generation.error or generation.verdict}"
    return result.results, counted, problem


def _was_quick(result: FunctionResult) -> bool:
    """Whether neither an execution nor the generator came near the time that counting gets."""
    slow = result.generation is not None and result.generation.cpu_ms > 500 * _COUNTED_SECONDS
    return not slow and all(ending.verdict != "timeout" for ending in result.results)


def _run(row: Row, context: Context, hash_seed: int, cpu_seconds: float, **what: Any) -> FunctionResult:
    """Execute the function in the sandbox of that hash seed.

    Raises:
        SandboxUnavailableError: the sandbox failed, its own second chances included.
    """
    from codeio_hpc.sandbox import FunctionRequest, Limits

    settings = context.config.sample
    limits = Limits(cpu_seconds=cpu_seconds, memory_bytes=settings.memory_mb * 2**20)
    asked = {"code": row["code"], "entry_point": row["entry_point"], **what}
    request = FunctionRequest(id=row["function_id"], limits=limits, seed=context.seed(row["function_id"]), **asked)
    result = context.pool(hash_seed).run(request)
    failures = [ending.error for ending in result.results if ending.verdict == "infrastructure"]
    if result.generation is not None and result.generation.verdict == "infrastructure":
        failures.append(result.generation.error)
    if failures:
        raise SandboxUnavailableError(f"{row['function_id']}: {failures[0]}")
    return result


def _accept(execution: Execution, counted: Measured | None, row: Row, context: Context, drop: _Drop) -> _Pair | None:
    """The pair of a first execution, if it was successful and fits a tier."""
    text = dump_json(execution.input)
    settings = context.config.sample
    if execution.verdict != "ok":
        drop(text, str(execution.verdict), execution.error or "")
        return None
    reading = None if counted is None else Reading.of(execution.output)
    value = execution.output if reading is None else reading.output
    if value is None:
        drop(text, "none_output")
        return None
    output = dump_json(value)
    if "leaking" in settings.reject and is_leaking(row, text, output):
        drop(text, "leaking", "the question's text shows this pair")
        return None
    fits = [tier for tier in settings.tiers if execution.cpu_ms <= 1000 * tier.cpu_seconds]
    for tier in fits:
        if not oversize_call(execution.input, tier.size) and not oversize(value, tier.size):
            if reading is None:
                return _Pair(text, output, tier.name)
            return _Pair(text, output, tier.name, reading.branches, reading.steps)
    widest = settings.tiers[-1].size
    if problem := oversize_call(execution.input, widest):
        drop(text, "too_large", f"input: {problem}")
    elif problem := oversize(value, widest):
        drop(text, "too_large", f"output: {problem}")
    else:
        drop(text, "too_large", "its values need one tier and its time another")
    return None


def _confirmed(row: Row, candidates: list[_Pair], context: Context, drop: _Drop) -> list[_Pair]:
    """As many pairs as are wanted, each seen to reproduce, in the order in which they were drawn."""
    wanted = context.config.sample.pairs
    good: list[_Pair] = []
    left = candidates
    for _ in range(_ROUNDS):
        chosen = choose(left, wanted - len(good))
        good += _confirm(row, [left[place] for place in chosen], context, drop)
        left = [pair for place, pair in enumerate(left) if place not in chosen]
        if len(good) == wanted or not left:
            break
    for pair in left:
        drop(pair.input, "surplus", "as many pairs as wanted were found without it")
    return sorted(good, key=candidates.index)


def _confirm(row: Row, pairs: list[_Pair], context: Context, drop: _Drop) -> list[_Pair]:
    """The pairs that come out the same in other processes, under other hash seeds and random seeds."""
    from codeio_hpc.sandbox import check_seeds

    left = pairs
    for hash_seed in check_seeds(row["code"]):
        if left:
            left = _reproduced(row, left, hash_seed, context, drop)
    return left


def _reproduced(row: Row, pairs: list[_Pair], hash_seed: int, context: Context, drop: _Drop) -> list[_Pair]:
    inputs = [json.loads(pair.input) for pair in pairs]
    again = _run(row, context, hash_seed, context.config.sample.most_cpu_seconds, inputs=inputs).results
    kept: list[_Pair] = []
    for pair, execution in zip(pairs, again, strict=True):
        if execution.verdict == "ok" and dump_json(execution.output) == pair.output:
            kept.append(pair)
        elif execution.verdict == "ok":
            drop(pair.input, "nondeterministic", f"{pair.output[:200]} and then {dump_json(execution.output)[:200]}")
        else:
            drop(pair.input, "nondeterministic", f"{pair.output[:200]} and then {execution.verdict}: {execution.error}")
    return kept


def choose(pairs: Sequence[_Pair], wanted: int) -> list[int]:
    """Places of at most ``wanted`` pairs, ascending. One after the other, the pair that takes most branch outcomes that
    are new; among equals one whose output is new; then the earliest."""
    outcomes: set[int] = set()
    outputs: set[str] = set()
    left = list(range(len(pairs)))
    chosen: list[int] = []

    def gain(place: int) -> tuple[int, bool, int]:
        return len(pairs[place].branches - outcomes), pairs[place].output not in outputs, -place

    while left and len(chosen) < wanted:
        best = max(left, key=gain)
        left.remove(best)
        chosen.append(best)
        outcomes |= pairs[best].branches
        outputs.add(pairs[best].output)
    return sorted(chosen)


def _rows(
    row: Row, pairs: list[_Pair], flags: Sequence[str], counted: Measured | None, context: Context
) -> Iterator[Row]:
    carried = {name: row[name] for name in FUNCTIONS.schema.names if name in PAIRS.schema.names}
    outcomes = frozenset[int]().union(*(pair.branches for pair in pairs))
    possible = 2 * counted.branches if counted is not None else 0
    coverage = None if counted is None else min(1.0, len(outcomes) / possible) if possible else 1.0
    context.counts["branch outcomes"] += possible
    context.counts["branch outcomes taken"] += len(outcomes)
    context.counts.update(f"function:{flag}" for flag in flags)
    for position, pair in enumerate(pairs):
        leaking = ["leaking"] if is_leaking(row, pair.input, pair.output) else []
        context.counts["pair:leaking"] += len(leaking)
        yield {
            **carried,
            "pair_id": PAIRS.row_id(row["function_id"], pair.input),
            "input": pair.input,
            "output": pair.output,
            "position": position,
            "pairs": len(pairs),
            "tier": pair.tier,
            "flags": [*flags, *leaking],
            "steps": pair.steps,
            "coverage": coverage,
        }
