"""The scripts that people type are the ones that are rendered."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from codeio_hpc.launch.notice import WARNING_SECONDS
from codeio_hpc.launch.scripts import SCRIPTS, BatchScript, render

FOLDER = Path(__file__).parents[2] / "slurm"


def test_every_script_is_rendered_and_every_rendered_one_is_there() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.sh")) == sorted(script.name for script in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_byte_for_byte_what_is_rendered(script: BatchScript) -> None:
    assert (FOLDER / f"{script.name}.sh").read_text(encoding="utf-8") == render(script)


@pytest.mark.parametrize("name", ["partition", "account", "gres", "nodes"])
def test_nothing_that_a_site_decides_gets_into_a_script(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} belongs into a site file"):
        render(BatchScript("x", ("X.",), ("true",), {name: "1"}))


def lacking(flag: str, **allocation: str) -> bool:
    """Whether common.sh finds that a job with these SLURM_ variables lacks what the flag gives."""
    shell = f'set -euo pipefail; home={FOLDER.parent}; source "$home/slurm/lib/common.sh"; lacking_flags "$0"'
    env = {"PATH": os.environ["PATH"], **allocation}
    done = subprocess.run(["bash", "-c", shell, flag], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("", flag)
    return bool(done.stdout)


def test_an_account_s_capital_letters_are_nothing_that_a_job_lacks() -> None:
    # SLURM keeps accounts in small letters, and takes them in any
    assert not lacking("--account=MyProj", SLURM_JOB_ACCOUNT="myproj")
    assert lacking("--account=MyProj", SLURM_JOB_ACCOUNT="other")
    # names of partitions are kept and taken as they are
    assert lacking("--partition=GPU", SLURM_JOB_PARTITION="gpu")


def test_a_script_says_to_sbatch_and_to_its_job_the_same_warning() -> None:
    for script in SCRIPTS:
        asked = re.findall(r"^#SBATCH --signal=B:USR1@(\d+)$", render(script), re.M)
        assert asked == re.findall(r"^export CODEIO_WARNING=(\d+)\b", render(script), re.M)
    assert asked == [str(WARNING_SECONDS)]
