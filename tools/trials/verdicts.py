"""What becomes of real functions in the sandbox: counts by verdict, and rejected pairs to read.

    python tools/trials/verdicts.py FUNCTIONS.jsonl [--show 30] [--limit N] [--seed 0]

Rows have ``refcode`` or ``code_sample`` or ``code``, and stored inputs (``ios``) or an ``input_generator``
that defines ``generate_inputs(rng)``. Each input
runs in a process of its own, and what was ok a second time under other hash seeds. Of the executions that were rejected
``--show`` are printed, no function twice as long as there are others: the verdict, what was said, the input, the code.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from codeio_hpc.sandbox.execute import run_lines


def request(number: int, row: dict[str, Any], count: int) -> dict[str, Any]:
    code = next(row[name] for name in ("refcode", "code_sample", "code") if row.get(name))
    line: dict[str, Any] = {"id": number, "code": code, "check_determinism": True, "non_finite": True}
    if row.get("ios"):
        return line | {"inputs": [pair["input"] for pair in row["ios"][:count]]}
    code = f"from random import Random\n\n{row['input_generator']}\n\nRNG = Random(0)\n\n\ndef input_generator():\n"
    code += "    return generate_inputs(RNG)\n"
    return line | {"generator": {"code": code, "count": count, "attempts": 10 * count}}


def shown(result: dict[str, Any], code: str) -> str:
    given = json.dumps(result.get("input"))
    words = f"{result['verdict']}: {result.get('error')}   ({result['cpu_ms']} ms CPU)"
    return f"{'=' * 100}\n{words}\ninput: {given[:300]}\n{'-' * 100}\n{code[:3000]}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("functions", type=Path, metavar="FUNCTIONS.jsonl")
    parser.add_argument("--show", type=int, default=30)
    parser.add_argument("--inputs", type=int, default=10, help="of a function")
    parser.add_argument("--limit", type=int, help="so many functions only, drawn by chance")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    rows = [json.loads(line) for line in options.functions.read_text(encoding="utf-8").splitlines()]
    if options.limit:
        rows = chance.sample(rows, min(options.limit, len(rows)))
    lines = [request(number, row, options.inputs) for number, row in enumerate(rows)]
    sink = io.StringIO()
    run_lines(io.StringIO("\n".join(map(json.dumps, lines))), sink, options.workers)
    answers = [json.loads(line) for line in sink.getvalue().splitlines()]
    counts = Counter(result["verdict"] for answer in answers for result in answer["results"])
    made = Counter(answer["generator"]["verdict"] for answer in answers if "generator" in answer)
    print(f"{len(rows)} functions, {counts.total()} executions: {dict(counts.most_common())}")
    if made:
        print(f"generators: {dict(made.most_common())}")
    rejected: list[tuple[dict[str, Any], str]] = []
    for line, answer in zip(lines, answers, strict=True):
        for place, result in enumerate(answer["results"]):
            if result["verdict"] != "ok":
                given = line["inputs"][place] if "inputs" in line else result.get("input")
                rejected.append((result | {"input": given}, line["code"]))
    chance.shuffle(rejected)
    seen: Counter[str] = Counter()
    ranked = sorted(rejected, key=lambda pair: (seen.update([pair[1]]), seen[pair[1]])[1])
    for result, code in ranked[: options.show]:
        print(shown(result, code))
    return 0


if __name__ == "__main__":
    sys.exit(main())
