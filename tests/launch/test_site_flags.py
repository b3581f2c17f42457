"""From a site file to what SLURM and submitit are told."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from codeio_hpc.config import load_yaml, parse
from codeio_hpc.config.load import parse_yaml
from codeio_hpc.config.site import Site
from codeio_hpc.errors import UserError
from codeio_hpc.launch.sites.flags import environment_script, preflight_line, sbatch_flags, submitit_parameters
from codeio_hpc.launch.sites.guess import guess_classes
from codeio_hpc.launch.sites.page import render

from .recorded_cluster import cluster

EXAMPLE = Path(__file__).parents[2] / "configs" / "sites" / "example.yaml"


@pytest.fixture
def example() -> Site:
    return parse(Site, load_yaml(EXAMPLE), "example.yaml")


def test_flags_of_a_training_job(example: Site) -> None:
    assert sbatch_flags(example, "train") == [
        "--partition=gpu",
        "--account=my-project",
        "--qos=preemptable",
        "--constraint=a100",
        "--nodes=4",
        "--ntasks-per-node=8",
        "--cpus-per-task=12",
        "--gres=gpu:a100:8",
        "--mem-per-gpu=60G",
        "--time=24:00:00",
        "--requeue",
        "--exclusive",
        "--switches=1",
    ]


def test_what_the_site_leaves_out_is_not_said() -> None:
    small = parse(Site, {"name": "s", "resources": {"cpu": {"time": "90m"}}, "requeue": "none"}, "s")
    assert sbatch_flags(small, "cpu") == [
        "--nodes=1",
        "--ntasks-per-node=1",
        "--cpus-per-task=1",
        "--time=1:30:00",
        "--no-requeue",
    ]


def test_a_class_that_the_site_does_not_have_is_a_user_s_mistake() -> None:
    small = parse(Site, {"name": "s", "resources": {"cpu": {"time": "90m"}}}, "s")
    with pytest.raises(UserError, match=r"add resources\.train to the site file"):
        sbatch_flags(small, "train")
    with pytest.raises(UserError, match="the classes are cpu, gpu, train"):
        sbatch_flags(small, "tpu")


@pytest.mark.parametrize("resource_class", ["cpu", "gpu", "train"])
def test_submitit_renders_the_same_flags(example: Site, resource_class: str) -> None:
    from submitit.slurm.slurm import _make_sbatch_string

    text = _make_sbatch_string(command="true", folder="/f", **submitit_parameters(example, resource_class))
    rendered = {line.removeprefix("#SBATCH ").replace("'", "") for line in text.splitlines() if "#SBATCH" in line}
    wanted = {flag for flag in sbatch_flags(example, resource_class) if not flag.startswith("--time=")}
    assert wanted <= rendered
    assert f"--time={example.resources.cpu.time}" in rendered or resource_class != "cpu"


def suggested() -> Site:
    """A site file as `site init` writes it, with the scratch folder that it suggests."""
    text = render("new", cluster(), guess_classes(cluster(), [], lambda flags: None), [], "login")
    return parse(Site, parse_yaml(text.replace("# scratch:", "scratch:"), "new.yaml"), "new.yaml")


def test_caches_are_in_tmp_where_the_job_has_no_variable_that_names_a_folder(example: Site) -> None:
    for site in (example, suggested()):
        assert site.scratch
        script = environment_script(site, "train").replace("module load cuda/12.4", ":") + 'echo "$CODEIO_SCRATCH"'
        done = subprocess.run(["bash", "-ec", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
        assert done.stdout.strip() == f"/tmp/codeio-{os.getuid()}"


def test_the_environment_script_is_sound_shell_and_caches_stay_on_the_node(example: Site) -> None:
    lines = environment_script(example, "train").replace("module load cuda/12.4", ":")
    show = 'echo "$TRITON_CACHE_DIR $HF_HUB_OFFLINE $CODEIO_REQUEUE $CODEIO_MAX_REQUEUES $NCCL_SOCKET_IFNAME"'
    result = subprocess.run(
        ["bash", "-euc", lines + show],
        env={"TMPDIR": "/node", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == [f"/node/codeio-{os.getuid()}/triton", "1", "self", "50", "ib0"]


@pytest.mark.parametrize(
    ("typed", "site", "says"), [(None, True, "1"), (None, False, "0"), ("0", True, "0"), ("1", False, "1")]
)
def test_a_site_says_whether_nodes_are_tested_and_a_submitter_otherwise(
    example: Site, typed: str | None, site: bool, says: str
) -> None:
    script = (
        preflight_line(example.model_copy(update={"preflight": site}))
        + "; echo $CODEIO_PREFLIGHT $CODEIO_PREFLIGHT_FLOOR"
    )
    environment = {"PATH": os.environ["PATH"], **({} if typed is None else {"CODEIO_PREFLIGHT": typed})}
    done = subprocess.run(["bash", "-euc", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{says} 0.8\n"
    assert preflight_line(example) in environment_script(example, "train").splitlines()
