"""Site files: what they accept, and how they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codeio_hpc.config import load_yaml, parse
from codeio_hpc.config.site import Site
from codeio_hpc.errors import UserError

SITES = sorted((Path(__file__).parents[2] / "configs" / "sites").glob("*.yaml"))


def site(cpu: dict[str, Any] | None = None, **settings: Any) -> Site:
    return parse(Site, {"name": "s", "resources": {"cpu": {"time": "30m", **(cpu or {})}}, **settings}, "site.yaml")


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_every_site_file_of_the_project_is_valid(path: Path) -> None:
    assert parse(Site, load_yaml(path), str(path)).name == path.stem


def test_times_are_read_as_written_and_a_bare_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: s\nresources: {cpu: {time: 1:30:00}}\n", encoding="utf-8")
    assert parse(Site, load_yaml(path), "s").resources.cpu.time == 90
    assert site({"time": "2-00:00:00"}).resources.cpu.time == 2880
    with pytest.raises(UserError, match=r"has no unit.*write '1:30:00' or '90m'"):
        site({"time": 5400})


def test_an_unknown_key_is_answered_with_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match="did you mean 'partition'"):
        site({"partitoin": "x"})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"memory": {"style": "mem"}}, "'value' belongs to each style but none"),
        ({"memory": {"value": "4G"}}, "style: none has no value"),
        ({"memory": {"style": "mem", "value": "4000"}}, "pattern"),
        ({"memory": {"style": "mem-per-gpu", "value": "4G"}}, "need gpus_per_node"),
        ({"gpu_type": "h100"}, "need gpus_per_node"),
        ({"account": "a b"}, "no blanks"),
        ({"partition": "$(touch x)"}, "no blanks, quotes"),
        ({"flags": ["exclusive"]}, "'--name' or '--name=value'"),
        ({"flags": ["-p gpu"]}, "'--name' or '--name=value'"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        site(settings)


@pytest.mark.parametrize(
    ("runtime", "image", "fits"),
    [
        ("apptainer", "/images/my exec.sif", True),
        ("apptainer", "docker://debian:12", True),
        ("apptainer", "exec.sif", False),
        ("apptainer", "images/exec.sif", False),
        ("apptainer", "~/exec.sif", False),
        ("apptainer", "$HOME/exec.sif", False),
        ("pyxis", "/images/exec.sqsh", True),
        ("pyxis", "ubuntu:22.04", True),  # a registry's name, as enroot takes it
        ("pyxis", "nvcr.io#nvidia/pytorch:24.01-py3", True),
        ("pyxis", "docker://me@nvcr.io#nvidia/pytorch", True),
        ("pyxis", "./exec.sqsh", False),
        ("pyxis", "~/exec.sqsh", False),
    ],
)
def test_an_image_is_found_from_every_folder(runtime: str, image: str, fits: bool) -> None:
    if fits:
        assert site({"image": image}, container={"runtime": runtime}).resources.cpu.image == image
    else:
        with pytest.raises(UserError, match=r"resources\.cpu\.image: write an absolute path"):
            site({"image": image}, container={"runtime": runtime})


def test_an_image_that_nothing_would_run_in_is_refused() -> None:
    image = {"time": "30m", "gpus_per_node": 1, "image": "/images/train.sif"}
    classes: dict[str, Any] = {"cpu": {"time": "30m"}, "train": image}
    facts = {"name": "s", "resources": classes, "container": {"runtime": "apptainer"}}
    assert parse(Site, facts, "site.yaml").resources.train
    classes["gpu"] = image
    with pytest.raises(UserError, match=r"resources\.gpu\.image is not used: data tasks .* and ranks"):
        parse(Site, facts, "site.yaml")


def test_a_bind_says_where_a_folder_is_inside_before_it_says_how() -> None:
    for bind in ("/data", "/data:/inside", "/data:/data:ro"):
        assert site(container={"binds": [bind]}).container.binds == (bind,)
    for bind in ("/data:ro", "/data:rw", "data", "/data:/x:rx"):
        with pytest.raises(UserError, match="a bind is written /outside"):
            site(container={"binds": [bind]})


def test_a_site_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        site().name = "other"  # type: ignore[misc]
