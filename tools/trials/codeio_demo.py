"""Trial: the public CodeI/O demo functions through the sandbox, against what an independent re-run of each pair gave.

    python tools/trials/codeio_demo.py FUNCTIONS.jsonl [--workers N]

Each row has ``refcode``, ``ios`` (input, output) and ``rerun``, one mark a pair: ``ok``, ``diff`` (did not reproduce),
``err``, ``import``. Exits with 1 unless at least 99 % of the ``ok`` pairs come back ok and correct and none of the
``diff`` pairs does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

BAR = 0.99


def request(number: int, row: dict) -> str:
    """The row as a line of ``codeio exec``."""
    pairs = row["ios"]
    line = {
        "id": number,
        "code": row["refcode"],
        "entry_point": row["funcname"],
        "inputs": [pair["input"] for pair in pairs],
        "expected": [pair["output"] for pair in pairs],
        "check_determinism": True,
        "non_finite": True,  # some pairs hold infinities
    }
    return json.dumps(line)


def main() -> int:
    """Print the rates; the exit code says whether they meet the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("functions", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.functions.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as name:
        source, sink = Path(name, "requests.jsonl"), Path(name, "results.jsonl")
        source.write_text("".join(request(number, row) + "\n" for number, row in enumerate(rows)), encoding="utf-8")
        command = ["exec", "--in", str(source), "--out", str(sink), "--workers", str(options.workers)]
        start = time.monotonic()
        code = subprocess.run([sys.executable, "-m", "codeio_hpc", *command], check=False).returncode
        seconds = time.monotonic() - start
        lines = sink.read_text(encoding="utf-8").splitlines()

    outcomes: dict[str, Counter[str]] = {}
    missed = []
    for row, line in zip(rows, lines, strict=True):
        answer = json.loads(line)
        if len(answer["results"]) != len(row["ios"]):
            raise SystemExit(f"not executed: {line}")
        for mark, pair, result in zip(row["rerun"], row["ios"], answer["results"], strict=True):
            held = result["verdict"] == "ok" and result["correct"]
            outcomes.setdefault(mark, Counter())["held" if held else result["verdict"]] += 1
            if held != (mark == "ok") and mark in ("ok", "diff"):
                missed.append((answer["id"], mark, result, pair))
    for function, mark, result, pair in missed:
        print(f"function {function} ({mark}): {json.dumps(result)[:200]} expected {json.dumps(pair['output'])[:80]}")
    for mark, counts in sorted(outcomes.items()):
        print(f"{mark:8} {dict(counts)}")
    good = outcomes["ok"]["held"] / outcomes["ok"].total()
    bad = outcomes["diff"]["held"]
    print(f"ok pairs that come back ok and correct: {100 * good:.2f} % (bar: {100 * BAR:.0f} %)")
    print(f"diff pairs that come back ok and correct: {bad} (bar: 0)")
    print(f"{seconds:.1f} s, exit code of codeio exec {code}")
    return 0 if good >= BAR and bad == 0 and code == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
