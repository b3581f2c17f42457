"""The batch scripts in slurm/, as text. What is there is byte for byte what is rendered here (a test): to change a
script, change it here and call tools/render_scripts.py.

A script carries nothing of any site: a job that lacks what the site file says submits itself once with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codeio_hpc.launch.notice import WARNING_SECONDS

DIRECTIVES = ("job-name", "output", "open-mode", "requeue", "time", "signal")
"""What a script may say to sbatch by itself: nothing that a site decides."""


@dataclass(frozen=True)
class BatchScript:
    """One script of slurm/."""

    name: str
    """Of the file, without .sh; jobs are called codeio-NAME."""
    about: tuple[str, ...]
    """Comment lines: what it does, how it is called."""
    body: tuple[str, ...]
    """What it does once it has found its home."""
    directives: Mapping[str, str] = field(default_factory=dict)
    """Further #SBATCH lines."""


def _training(stage: str, what: str) -> BatchScript:
    return BatchScript(
        name=stage,
        about=(
            f"{what}:  sbatch slurm/{stage}.sh [RUN]     (RUN: $CODEIO_RUN, else runs/latest)",
            "Nodes, GPUs, partition and account are the site file's; see docs/cluster.md.",
        ),
        directives={"signal": f"B:USR1@{WARNING_SECONDS}"},
        body=(
            "run=${1:-${CODEIO_RUN:-runs/latest}}",
            f"export CODEIO_WARNING={WARNING_SECONDS} # as --signal asks",
            f'begin train {stage}.sh "$@"',
            'banner "$run/run.json"',
            'preflight "$run"',
            f'run_ranks train "$run" --stage {stage}',
            "attempt_ends",
        ),
    )


SCRIPTS = (
    BatchScript(
        name="dataset",
        about=(
            "Build a dataset as job arrays, or continue:  sbatch slurm/dataset.sh CONFIG [key=value...]",
            "This job is small: it submits the next array and ends. Each array is followed by a small job that does the"
            " same, until",
            "the dataset is complete. Type the same line again after any failure: only what is missing is done.",
        ),
        body=(
            '(($#)) || fail "no configuration was given; type: sbatch $home/slurm/dataset.sh configs/runs/demo.yaml"',
            'begin cpu dataset.sh "$@"',
            'banner "$1"',
            'run_one build "$@" --site "${CODEIO_SITE:-default}"',
            "attempt_ends",
        ),
    ),
    _training("stage1", "Train stage 1 of a run"),
    _training("stage2", "Train stage 2 of a run, after stage 1"),
    _training("rft", "Train a run's rejection-sampled solutions"),
)


def render(script: BatchScript) -> str:
    """The text of a script.

    Raises:
        ValueError: it says something to sbatch that a site decides.
    """
    directives = {
        "job-name": f"codeio-{script.name}",
        "output": "%x-%j.out",  # where it was typed: a job whose log is in a folder that is not there fails without one
        "open-mode": "append",
        "requeue": "",
        "time": "10",
        **script.directives,
    }
    if odd := sorted(set(directives) - set(DIRECTIVES)):
        raise ValueError(f"slurm/{script.name}.sh: {', '.join(odd)} belongs into a site file")
    lines = ["#!/usr/bin/env bash"]
    lines += [f"# {line}" for line in script.about]
    lines += [f"#SBATCH --{name}={value}" if value else f"#SBATCH --{name}" for name, value in directives.items()]
    lines += _HEAD
    lines += ["", *script.body]
    return "\n".join(lines) + "\n"


_HEAD = (
    "set -euo pipefail",
    "# In a job this file is a copy in SLURM's spool folder: what belongs to it is found from where it was submitted.",
    "home=${CODEIO_HOME:-${SLURM_SUBMIT_DIR:-$PWD}}",
    "[[ -e $home/slurm/lib/common.sh ]] ||"
    ' { echo "not in $home: export CODEIO_HOME=/path/to/codeio-hpc" >&2; exit 64; }',
    "# shellcheck source=slurm/lib/common.sh",
    'source "$home/slurm/lib/common.sh"',
)
