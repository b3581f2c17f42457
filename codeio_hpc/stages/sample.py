"""sample: draw inputs of a function, execute them again and again in the sandbox, and keep the pairs that reproduce."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from codeio_hpc.config.run import RunConfig
from codeio_hpc.sandbox.values import dump_json
from codeio_hpc.stages.base import Context, MapStage, Rejection
from codeio_hpc.stages.sizes import oversize, oversize_call
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import FUNCTIONS, PAIRS, Table

if TYPE_CHECKING:
    from codeio_hpc.sandbox import Execution, FunctionResult

_SPARE = 4
"""Inputs drawn beyond the pairs wanted: some calls fail, and among many outputs the different ones are preferred."""
_ROUNDS = 2
"""Confirmations at most: of the pairs chosen, then of spare ones in place of those that did not reproduce."""


_Drop = Callable[..., None]
"""Called with input, reason and, perhaps, a detail of a pair that is given up."""


class SandboxUnavailableError(Exception):
    """The sandbox failed at a function, again and again. Never blamed on the code: the shard must be tried again."""


@dataclass(frozen=True)
class _Pair:
    """One execution that has passed everything so far, in canonical JSON."""

    input: str
    output: str


class Sample(MapStage):
    """Inputs come from the function's generator, seeded by the function's id; what is stored is what was executed.

    Every input is executed again in another process, under another hash seed and another seed of ``random`` (code
    that names sets or hashes: under three more); a pair whose outcomes differ is dropped as ``nondeterministic``. A
    call that fails costs its pair alone: a rejected candidate with the verdict as its reason (also too_large,
    none_output, and surplus for good pairs beyond the number wanted). A function with fewer than ``min_pairs`` is
    rejected as ``too_few_pairs``.
    """

    name: ClassVar[str] = "sample"
    version: ClassVar[int] = 2
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

    first, problem = _draw(row, context)
    candidates = [pair for execution in first if (pair := _accept(execution, context, drop)) is not None]
    pairs = _confirmed(row, candidates, context, drop)
    why = _why(reasons, len(pairs), problem)
    if len(pairs) < settings.min_pairs:
        for pair in pairs:
            drop(pair.input, "too_few_pairs", "good, but too few of its function are")
        yield Rejection(row["function_id"], "too_few_pairs", why)
    else:
        yield from _rows(row, pairs)
        context.counts["verdict:ok"] += len(pairs)
    for reason, count in sorted(reasons.items()):
        context.counts[f"verdict:{reason}"] += count
    yield from dropped.values()


def _why(reasons: Counter[str], kept: int, problem: str) -> str:
    """The dominating reason first, then the number of good pairs."""
    worst = max(sorted(reasons), key=lambda reason: reasons[reason], default="no_input")
    return f"{worst}; {kept} good pairs" + (f"; {problem}" if problem else "")


def _draw(row: Row, context: Context) -> tuple[list[Execution], str]:
    """The generator's inputs, executed under hash seed 0; and what went wrong with the generator, if anything did."""
    from codeio_hpc.sandbox import Generator

    settings = context.config.sample
    generator = Generator(
        code=row["generator"],
        count=settings.pairs + _SPARE,
        attempts=settings.attempts,
        seed=context.seed(row["function_id"]),
    )
    result = _run(row, context, 0, generator=generator)
    generation = result.generation
    if generation is None or (generation.verdict == "ok" and result.results):
        return result.results, ""
    return result.results, f"the input generator: {generation.error or generation.verdict}"


def _run(row: Row, context: Context, hash_seed: int, **what: Any) -> FunctionResult:
    """Execute the function in the sandbox of that hash seed.

    Raises:
        SandboxUnavailableError: the sandbox failed, its own second chances included.
    """
    from codeio_hpc.sandbox import FunctionRequest, Limits

    settings = context.config.sample
    limits = Limits(cpu_seconds=settings.cpu_seconds, memory_bytes=settings.memory_mb * 2**20)
    request = FunctionRequest(
        id=row["function_id"],
        code=row["code"],
        entry_point=row["entry_point"],
        limits=limits,
        seed=context.seed(row["function_id"]),
        **what,
    )
    result = context.pool(hash_seed).run(request)
    failures = [ending.error for ending in result.results if ending.verdict == "infrastructure"]
    if result.generation is not None and result.generation.verdict == "infrastructure":
        failures.append(result.generation.error)
    if failures:
        raise SandboxUnavailableError(f"{row['function_id']}: {failures[0]}")
    return result


def _accept(execution: Execution, context: Context, drop: _Drop) -> _Pair | None:
    """The pair of a first execution, if it was successful and keeps the size rules."""
    text = dump_json(execution.input)
    rules = context.config.sample.size
    if execution.verdict != "ok":
        drop(text, str(execution.verdict), execution.error or "")
    elif execution.output is None:
        drop(text, "none_output")
    elif problem := oversize_call(execution.input, rules):
        drop(text, "too_large", f"input: {problem}")
    elif problem := oversize(execution.output, rules):
        drop(text, "too_large", f"output: {problem}")
    else:
        return _Pair(text, dump_json(execution.output))
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
    again = _run(row, context, hash_seed, inputs=inputs).results
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
    """Places of at most ``wanted`` pairs, ascending: first those whose output is new, then the earliest others."""
    seen: set[str] = set()
    fresh: list[int] = []
    rest: list[int] = []
    for place, pair in enumerate(pairs):
        (rest if pair.output in seen else fresh).append(place)
        seen.add(pair.output)
    return sorted([*fresh, *rest][:wanted])


def _rows(row: Row, pairs: list[_Pair]) -> Iterator[Row]:
    carried = {name: row[name] for name in FUNCTIONS.schema.names if name in PAIRS.schema.names}
    constant = len({pair.output for pair in pairs}) == 1
    for position, pair in enumerate(pairs):
        yield {
            **carried,
            "pair_id": PAIRS.row_id(row["function_id"], pair.input),
            "input": pair.input,
            "output": pair.output,
            "position": position,
            "constant_output": constant,
        }
