"""The administrators' policy: the strictest holds, users are told, and a broken file is no free pass."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codeio_hpc.config import parse, policy
from codeio_hpc.config.policy import (
    Policy,
    PolicyFile,
    capped,
    demanded_isolation,
    read_policies,
    refuse_weak_isolation,
)
from codeio_hpc.config.site import Site
from codeio_hpc.errors import UserError
from codeio_hpc.sandbox import Pool


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where policies are looked for in this test: the machine's and the installation's; neither is there yet."""
    paths = (tmp_path / "etc" / "policy.yaml", tmp_path / "prefix" / "policy.yaml")
    for path in paths:
        path.parent.mkdir()
    monkeypatch.setattr(policy, "POLICY_FILES", paths)
    return paths


def site(**settings: object) -> Site:
    return parse(Site, {"name": "s", "resources": {"cpu": {"time": "30m"}}, **settings}, "site.yaml")


def test_without_a_policy_nothing_is_lowered_or_refused(files: tuple[Path, Path]) -> None:
    assert read_policies() == []
    assert capped(site(max_tasks_at_once=5000), read_policies()) == (site(max_tasks_at_once=5000), [])
    refuse_weak_isolation("none")


def test_of_two_policies_the_strictest_bound_holds_and_its_file_is_named(files: tuple[Path, Path]) -> None:
    machine, installation = files
    machine.write_text("max_tasks_at_once: 32\nmax_array_size: 500\n")
    installation.write_text("max_tasks_at_once: 8\nmax_array_size: 900\nmessage: ask hpc@example.org\n")
    lowered, lines = capped(site(max_tasks_at_once=64, max_array_size=1001), read_policies())
    assert (lowered.max_tasks_at_once, lowered.max_array_size) == (8, 500)
    assert lines == [
        f"max_array_size 1001 is lowered to 500 by {machine}",
        f"max_tasks_at_once 64 is lowered to 8 by {installation} (ask hpc@example.org)",
    ]
    assert lowered.max_submissions_per_minute == site().max_submissions_per_minute


def test_a_policy_raises_nothing() -> None:
    stricter = site(max_tasks_at_once=4)
    assert capped(stricter, [PolicyFile(Path("p"), Policy(max_tasks_at_once=32))]) == (stricter, [])


def test_less_isolation_than_the_floor_is_refused_with_the_file_that_says_so(files: tuple[Path, Path]) -> None:
    files[0].write_text("minimum_isolation: landlock+seccomp\nmessage: ask hpc@example.org\n")
    refuse_weak_isolation("nsjail")
    refuse_weak_isolation("landlock+seccomp")
    for weak in ("seccomp", "none"):
        with pytest.raises(UserError, match=r"demands at least 'landlock\+seccomp'.*ask hpc@example.org") as error:
            refuse_weak_isolation(weak)
        assert str(files[0]) in str(error.value) and "sandbox.minimum=landlock+seccomp" in error.value.fix


def test_the_strongest_of_all_demands() -> None:
    files = [PolicyFile(Path("p"), Policy(minimum_isolation="seccomp")), PolicyFile(Path("q"), Policy())]
    assert demanded_isolation("none", files) == "seccomp"
    assert demanded_isolation("nsjail", files) == "nsjail"


def test_no_sandbox_starts_below_the_floor_whoever_asks_for_it(files: tuple[Path, Path]) -> None:
    """Where untrusted code is executed is the last gate: run.json may have been written elsewhere."""
    files[1].write_text("minimum_isolation: nsjail\n")
    for asked in ({"minimum": "landlock+seccomp"}, {"level": "none"}, {}):
        with pytest.raises(UserError, match="demands at least 'nsjail'"):
            Pool(**asked)
    Pool(minimum="nsjail").close()


@pytest.mark.parametrize("text", ["minimum_isolation: strong\n", "max_tasks: 4\n", "- a\n", "", "a: [\n"])
def test_a_broken_policy_is_an_error_not_a_free_pass(files: tuple[Path, Path], text: str) -> None:
    files[1].write_text("max_tasks_at_once: 8\n")
    files[0].write_text(text)
    with pytest.raises(UserError, match=str(files[0])):
        read_policies()
    with pytest.raises(UserError, match=str(files[0])):
        Pool(level="none")


def test_a_policy_that_leads_nowhere_is_an_error_too(files: tuple[Path, Path]) -> None:
    files[0].symlink_to("gone.yaml")
    with pytest.raises(UserError, match=str(files[0])):
        read_policies()


def test_the_places_are_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment variable of ours leads elsewhere."""
    text = Path(policy.__file__).read_text(encoding="utf-8")
    assert "environ" not in text and "getenv" not in text
    assert policy.POLICY_FILES[0] == Path("/etc/codeio-hpc/policy.yaml")
    assert os.path.isabs(policy.POLICY_FILES[1])
