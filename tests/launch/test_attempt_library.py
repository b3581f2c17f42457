"""slurm/lib/attempt.sh without a scheduler: what the batch shell decides by itself."""

from __future__ import annotations

import subprocess

import pytest

from codeio_hpc.launch.jobs import batch_library

WAITING = """
sleep() {{ slept=$((slept + $1)); }}
scontrol() {{ {says}; }}
slept=0 SLURM_JOB_ID=1 CODEIO_REQUEUE=self CODEIO_PREEMPT_MODE=requeue CODEIO_GRACE=60
source "$0"
await_preemption "state saved" >/dev/null
echo "$slept"
"""


@pytest.mark.parametrize(
    ("says", "seconds"), [("echo 'KillWait                = 90 sec'", 60 + 90 + 40), ("return 1", 60 + 30 + 40)]
)
def test_a_job_that_was_told_to_end_waits_until_slurm_has_killed_it(says: str, seconds: int) -> None:
    """However long KillWait is here: a job that was cancelled is not to start itself again."""
    command = ["bash", "-euo", "pipefail", "-c", WAITING.format(says=says), str(batch_library())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == seconds
