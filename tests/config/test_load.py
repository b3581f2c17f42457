"""Configuration files: what they may say, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeio_hpc.config import RunConfig, apply_overrides, load_yaml, parse, settings_hash
from codeio_hpc.errors import UserError

MINIMAL = "name: x\nsources:\n  - {name: lib, stdlib: true}\n"


def read(tmp_path: Path, text: str, *overrides: str) -> RunConfig:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return parse(RunConfig, apply_overrides(load_yaml(path), overrides), str(path))


def error_of(tmp_path: Path, text: str, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text, *overrides)
    return caught.value


def test_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    error = error_of(tmp_path, MINIMAL + "sample: {piars: 3}\n")
    assert "sample.piars" in error.found
    assert "did you mean 'pairs'?" in error.fix


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    error = error_of(tmp_path, MINIMAL + "sed: 1\nsample: {pairs: many}\n")
    assert "sed" in error.found and "sample.pairs" in error.found


@pytest.mark.parametrize(
    ("text", "minutes"), [("1:30:00", 90), ("2-00:00:00", 2880), ("90m", 90), ("1h30m", 90), ("00:00:30", 1)]
)
def test_a_time_means_what_it_says(tmp_path: Path, text: str, minutes: int) -> None:
    """YAML 1.1 reads 1:30:00 as the integer 5400."""
    assert read(tmp_path, f"{MINIMAL}launch: {{task_time: {text}}}\n").launch.task_time == minutes


def test_a_bare_number_is_no_time(tmp_path: Path) -> None:
    assert "no unit" in error_of(tmp_path, MINIMAL + "launch: {task_time: 90}\n").found


def test_yaml_traps_are_disarmed(tmp_path: Path) -> None:
    config = read(tmp_path, "name: on\nsources: [{name: no, stdlib: true}]\nsample: {cpu_seconds: 1e-1}\n")
    assert (config.name, config.sources[0].name, config.sample.cpu_seconds) == ("on", "no", 0.1)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    assert "stands twice" in error_of(tmp_path, MINIMAL + "seed: 1\nseed: 2\n").found


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe", b"", b"- 1\n", b"a:\tb: c"])
def test_what_is_no_yaml_mapping_gets_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError):
        load_yaml(path)


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(MINIMAL)
    with pytest.raises(UserError) as caught:
        load_yaml(tmp_path / "demoo.yaml")
    assert "demo.yaml" in caught.value.fix


def test_overrides_go_through_sections_and_are_read_as_yaml(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL, "sample.pairs=4", "pose.directions=[output]", "launch.task_time=2h0m")
    assert (config.sample.pairs, config.pose.directions, config.launch.task_time) == (4, ("output",), 120)


@pytest.mark.parametrize("override", ["sample.pairs", "=3", "name.x=1"])
def test_a_malformed_override_is_refused(tmp_path: Path, override: str) -> None:
    error_of(tmp_path, MINIMAL, override)


def test_the_resolved_configuration_can_be_read_back(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL, "launch.task_time=1:30:00", "sample.cpu_seconds=2.5")
    assert parse(RunConfig, config.model_dump(mode="json"), "run.json") == config


def test_how_the_work_is_carried_out_is_not_part_of_a_runs_identity(tmp_path: Path) -> None:
    one, two = read(tmp_path, MINIMAL, "launch.workers=1"), read(tmp_path, MINIMAL, "launch.workers=4")
    assert settings_hash(one.identity()) == settings_hash(two.identity())
    assert settings_hash(read(tmp_path, MINIMAL, "seed=1").identity()) != settings_hash(one.identity())


def test_a_source_has_exactly_one_origin(tmp_path: Path) -> None:
    assert "exactly one" in error_of(tmp_path, "name: x\nsources: [{name: a, stdlib: true, path: b}]\n").found
