"""sample: draw inputs of a function, execute them again and again in the sandbox, and keep the pairs that reproduce."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

_COUNTED_STEPS = 50_000
"""Conditions and turns of loops of an execution, at most, while branches are counted: some 0.05 s."""
_ROUNDS = 2
"""Confirmations at most: of the pairs chosen, then of spare ones in place of those that did not reproduce."""


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

    Every input is executed again in another process, under another hash seed and another seed of ``random`` (code that
    names sets or hashes: under three more); a pair whose outcomes differ is dropped as ``nondeterministic``. A call
    that fails costs its pair alone: a rejected candidate with the verdict as its reason (also too_large, none_output,
    leaking by setting, and surplus for good pairs beyond the number wanted). Of more good pairs than are wanted, those
    are kept that take branches and give outputs which no other does. A function with fewer than ``min_pairs`` is
    rejected as ``too_few_pairs``, one with a flag that is not wanted as that flag.

    The executions of a function under one hash seed share a process, each in a module of its own, in opposite orders
    the first time and the next, which is several times cheaper. Where any pair does not reproduce, the function is done
    again with a process for every execution: it may keep something between its calls.
    """

    name: ClassVar[str] = "sample"
    version: ClassVar[int] = 4
    input: ClassVar[Table] = FUNCTIONS
    output: ClassVar[Table] = PAIRS

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {"seed": config.seed, **config.sample.model_dump(mode="json")}

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        for row in rows:
            sampling = _Sampling(row, context, together=True)
            sampling.run()
            if sampling.shared and sampling.reasons["nondeterministic"]:
                sampling = _Sampling(row, context, together=False)
                sampling.run()
            yield from sampling.finish()


class _Sampling:
    """One function on its way through its inputs.

    Args:
        together: the executions under one hash seed share a process.
    """

    def __init__(self, row: Row, context: Context, together: bool) -> None:
        self.row, self.context, self.together = row, context, together
        self.shared = False
        """Whether any executions did."""
        self.settings = context.config.sample
        self.counted: Measured | None = None
        """The copy of the code that counts branches, if it was that which ran."""
        self.problem = ""
        """What went wrong with the generator, if anything did."""
        self.pairs: list[_Pair] = []
        self.dropped: dict[str, Rejection] = {}
        self.reasons: Counter[str] = Counter()

    def run(self) -> None:
        """Find the pairs."""
        candidates = [self.accept(execution) for execution in self.draw()]
        self.pairs = self.confirmed([pair for pair in candidates if pair is not None])

    def drop(self, input_text: str, reason: str, detail: str = "") -> None:
        """Give up the pair of this input."""
        self.reasons[reason] += 1
        identity = PAIRS.row_id(self.row["function_id"], input_text)
        told = f"{detail[:400]} (input: {input_text[:400]})".lstrip()
        rejection = Rejection(identity, reason, told, parent_id=self.row["function_id"])
        self.dropped.setdefault(identity, rejection)

    def draw(self) -> list[Execution]:
        """The generator's inputs, executed under hash seed 0.

        By the copy that counts, if there is one: that it does the same is seen when the code itself is executed next.
        Code that does too much to be counted runs as it is, so that no measure costs a pair.
        """
        from codeio_hpc.sandbox import Generator

        generator = Generator(
            code=self.row["generator"],
            count=self.settings.pairs + self.settings.spare,
            attempts=self.settings.attempts,
            seed=self.context.seed(self.row["function_id"]),
        )
        counted = measured(self.row["code"], self.row["entry_point"], _COUNTED_STEPS)
        if counted is not None:
            result = self.execute(0, generator=generator, code=counted.code, entry_point=MEASURED)
            readings = [Reading.of(ending.output) for ending in result.results if ending.verdict == "ok"]
            if any(map(counted.is_given_up, readings)):
                self.together = False
                result = self.execute(0, generator=generator)
            else:
                self.counted = counted
        else:
            result = self.execute(0, generator=generator)
        generation = result.generation
        if generation is not None and not (generation.verdict == "ok" and result.results):
            self.problem = f"the input generator: {generation.error or generation.verdict}"
        return result.results

    def execute(self, hash_seed: int, **what: Any) -> FunctionResult:
        """Execute the function in the sandbox of that hash seed.

        Raises:
            SandboxUnavailableError: the sandbox failed, its own second chances included.
        """
        from codeio_hpc.sandbox import FunctionRequest, Limits

        identity = self.row["function_id"]
        memory = self.settings.memory_mb * 2**20
        asked = {"code": self.row["code"], "entry_point": self.row["entry_point"], **what}
        request = FunctionRequest(
            id=identity,
            limits=Limits(cpu_seconds=self.settings.most_cpu_seconds, memory_bytes=memory),
            seed=self.context.seed(identity),
            kind=self.row["kind"],
            together=self.together,
            **asked,
        )
        result = self.context.pool(hash_seed).run(request)
        self.shared = self.shared or result.shared
        self.together = self.together and result.shared  # what was too slow to share once is so again
        failures = [ending.error for ending in result.results if ending.verdict == "infrastructure"]
        if result.generation is not None and result.generation.verdict == "infrastructure":
            failures.append(result.generation.error)
        if failures:
            raise SandboxUnavailableError(f"{identity}: {failures[0]}")
        return result

    def accept(self, execution: Execution) -> _Pair | None:
        """The pair of a first execution, if it was successful and fits a tier."""
        text = dump_json(execution.input)
        if execution.verdict != "ok":
            self.drop(text, str(execution.verdict), execution.error or "")
            return None
        reading = None if self.counted is None else Reading.of(execution.output)
        value = execution.output if reading is None else reading.output
        if value is None:
            self.drop(text, "none_output")
            return None
        output = dump_json(value)
        if "leaking" in self.settings.reject and is_leaking(self.row, text, output):
            self.drop(text, "leaking", "the question's text shows this pair")
            return None
        for tier in self.settings.tiers:
            quick = execution.cpu_ms <= 1000 * tier.cpu_seconds
            if quick and not oversize_call(execution.input, tier.size) and not oversize(value, tier.size):
                if reading is None:
                    return _Pair(text, output, tier.name)
                return _Pair(text, output, tier.name, reading.branches, reading.steps)
        widest = self.settings.tiers[-1].size
        if problem := oversize_call(execution.input, widest):
            self.drop(text, "too_large", f"input: {problem}")
        elif problem := oversize(value, widest):
            self.drop(text, "too_large", f"output: {problem}")
        else:
            self.drop(text, "too_large", "its values need one tier and its time another")
        return None

    def confirmed(self, candidates: list[_Pair]) -> list[_Pair]:
        """As many pairs as are wanted, each seen to reproduce, in the order in which they were drawn."""
        wanted = self.settings.pairs
        good: list[_Pair] = []
        left = candidates
        for _ in range(_ROUNDS):
            chosen = choose(left, wanted - len(good))
            good += self.confirm([left[place] for place in chosen])
            left = [pair for place, pair in enumerate(left) if place not in chosen]
            if len(good) == wanted or not left:
                break
        for pair in left:
            self.drop(pair.input, "surplus", "as many pairs as wanted were found without it")
        return sorted(good, key=candidates.index)

    def confirm(self, pairs: list[_Pair]) -> list[_Pair]:
        """The pairs that come out the same in other processes, under other hash seeds and random seeds."""
        from codeio_hpc.sandbox import check_seeds

        left = pairs
        for hash_seed in check_seeds(self.row["code"]):
            if left:
                left = self.reproduced(left, hash_seed)
        return left

    def reproduced(self, pairs: list[_Pair], hash_seed: int) -> list[_Pair]:
        """The pairs that come out the same under this hash seed, executed from the last to the first: what would come
        after others in one process then comes before them."""
        inputs = [json.loads(pair.input) for pair in reversed(pairs)]
        again = self.execute(hash_seed, inputs=inputs).results
        kept: list[_Pair] = []
        for pair, execution in zip(pairs, reversed(again), strict=True):
            if execution.verdict == "ok" and dump_json(execution.output) == pair.output:
                kept.append(pair)
                continue
            other = f"{execution.verdict}: {execution.error}"
            if execution.verdict == "ok":
                other = dump_json(execution.output)[:200]
            self.drop(pair.input, "nondeterministic", f"{pair.output[:200]} and then {other}")
        return kept

    def finish(self) -> Iterator[Row | Rejection]:
        """The function's pairs, or its rejection; and whatever was dropped on the way."""
        counts, pairs = self.context.counts, self.pairs
        flags = function_flags([(pair.input, pair.output) for pair in pairs]) if pairs else []
        unwanted = next((flag for flag in flags if flag in self.settings.reject), None)
        if len(pairs) < self.settings.min_pairs:
            why = self.why()
            for pair in pairs:
                self.drop(pair.input, "too_few_pairs", "good, but too few of its function are")
            yield Rejection(self.row["function_id"], "too_few_pairs", why)
        elif unwanted is not None:
            for pair in pairs:
                self.drop(pair.input, unwanted, "its function is not wanted")
            yield Rejection(self.row["function_id"], unwanted, f"{len(pairs)} good pairs")
        else:
            yield from self.rows(flags)
            counts["verdict:ok"] += len(pairs)
        counts.update({f"verdict:{reason}": count for reason, count in sorted(self.reasons.items())})
        yield from self.dropped.values()

    def why(self) -> str:
        """The dominating reason first, then the number of good pairs."""
        worst = max(sorted(self.reasons), key=lambda reason: self.reasons[reason], default="no_input")
        return f"{worst}; {len(self.pairs)} good pairs" + (f"; {self.problem}" if self.problem else "")

    def rows(self, flags: Sequence[str]) -> Iterator[Row]:
        """The pairs as rows."""
        row, counts = self.row, self.context.counts
        carried = {name: row[name] for name in FUNCTIONS.schema.names if name in PAIRS.schema.names}
        outcomes = frozenset[int]().union(*(pair.branches for pair in self.pairs))
        possible = 2 * self.counted.branches if self.counted is not None else 0
        coverage = None if self.counted is None else min(1.0, len(outcomes) / possible) if possible else 1.0
        counts.update(f"function:{flag}" for flag in flags)
        for position, pair in enumerate(self.pairs):
            leaking = ["leaking"] if is_leaking(row, pair.input, pair.output) else []
            counts["pair:leaking"] += len(leaking)
            yield {
                **carried,
                "pair_id": PAIRS.row_id(row["function_id"], pair.input),
                "input": pair.input,
                "output": pair.output,
                "position": position,
                "pairs": len(self.pairs),
                "tier": pair.tier,
                "flags": [*flags, *leaking],
                "steps": pair.steps,
                "coverage": coverage,
            }


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
