"""The check-up of the sandbox: each level against what is demanded, and what the levels stand on."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from codeio_hpc import cli
from codeio_hpc.launch.doctor import isolation, sandbox
from codeio_hpc.launch.doctor.finding import Finding


def probed(best: str | None, nsjail: str | None = "/n") -> dict[str, Any]:
    place = isolation._LEVELS.index(best) if best else 9
    levels = {
        level: {"available": number >= place, "why_not": None if number >= place else f"{level} is not here"}
        for number, level in enumerate(isolation._LEVELS)
    }
    found = {"nsjail": nsjail, "nsjail_from": "PATH" if nsjail else None}
    return {"best": best, "levels": levels, **found, "why_no_nsjail": None if nsjail else "PATH /n: libnl is missing"}


def test_isolation_is_held_against_what_is_demanded() -> None:
    def verdict(best: str | None, minimum: str) -> str:
        return isolation.sandbox_findings(probed(best), minimum)[0].verdict

    assert verdict("nsjail", "landlock+seccomp") == "pass"
    assert verdict("landlock+seccomp", "landlock+seccomp") == "warn"
    assert verdict("seccomp", "landlock+seccomp") == "fail"
    assert verdict("landlock+seccomp", "nsjail") == "fail"
    assert verdict(None, "none") == "fail"
    assert "nsjail is not here" in isolation.sandbox_findings(probed("seccomp"), "nsjail")[0].fix
    binary = isolation.sandbox_findings(probed("seccomp", None), "seccomp")[1]
    assert (binary.verdict, binary.value) == ("warn", "no binary that starts: PATH /n: libnl is missing")


def test_landlock_and_cgroups(tmp_path: Path) -> None:
    assert isolation.landlock_finding(4, 0).verdict == "pass"
    assert isolation.landlock_finding(-1, 38).verdict == "warn"
    assert "version 1" in isolation.cgroups("4:memory:/x\n0::/\n", tmp_path).value
    (tmp_path / "cgroup.controllers").touch()
    assert "not delegated" in isolation.cgroups("0::/job_1\n", tmp_path).value
    (tmp_path / "job_1").mkdir()
    (tmp_path / "job_1" / "cgroup.procs").touch()
    assert "delegated to you" in isolation.cgroups("0::/job_1\n", tmp_path).value


def test_each_level_gets_a_line_with_what_it_covers_or_why_it_cannot_be_had() -> None:
    found = {each.name: each for each in sandbox.level_findings(probed("landlock+seccomp"))}
    assert list(found) == ["level nsjail", "level landlock+seccomp", "level seccomp", "level none"]
    assert (found["level nsjail"].verdict, found["level nsjail"].value) == ("warn", "nsjail is not here")
    assert {found[name].verdict for name in list(found)[1:]} == {"pass"}
    assert "marked in every result" in found["level none"].value
    fixes = [each.fix for each in sandbox.level_findings(probed("none"))]
    assert "Linux 5.13" in fixes[1] and "CONFIG_SECCOMP_FILTER" in fixes[2]


def test_what_the_levels_stand_on(tmp_path: Path) -> None:
    assert sandbox.seccomp_finding(errno.EFAULT).verdict == "pass"
    assert sandbox.seccomp_finding(errno.EINVAL).verdict == "warn"
    releases = ("6.1.0-18-amd64", "5.15.0", "5.4.0-150-generic", "4.18.0-553.el8_10.x86_64")
    assert [sandbox.kernel(release).verdict for release in releases] == ["pass", "pass", "warn", "warn"]
    assert "landlock+seccomp needs 5.13" in sandbox.kernel("4.18.0-553.el8_10.x86_64").fix
    assert sandbox.memory_files(tmp_path / "none").verdict == "pass"
    for value, verdict in (("0", "pass"), ("1", "pass"), ("2", "warn")):
        (tmp_path / "memfd_noexec").write_text(f"{value}\n", encoding="ascii")
        assert sandbox.memory_files(tmp_path / "memfd_noexec").verdict == verdict


def test_a_compiler_is_tried_and_what_is_wrong_with_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sandbox.compiled_programs("landlock+seccomp").verdict == "pass"
    assert "not tried" in sandbox.compiled_programs("seccomp").value
    with tempfile.TemporaryDirectory() as folder:  # which others may enter: compilers of root's run as nobody
        Path(folder).chmod(0o755)
        compiler = Path(folder, "g++")
        compiler.write_text("#!/bin/sh\necho 99.1; echo no such disk >&2; [ $# = 1 ]\n", encoding="ascii")
        compiler.chmod(0o755)
        monkeypatch.setenv("PATH", folder)
        broken = sandbox.compiled_programs("landlock+seccomp")
        assert broken.verdict == "fail" and broken.value.startswith(f"99.1, {compiler}; the compiler refuses"), broken
        compiler.chmod(0o700)
        closed = sandbox.compiled_programs("landlock+seccomp")
        assert closed.verdict == "fail" and ("Permission denied" in closed.value or os.geteuid() != 0), closed
        compiler.unlink()
        missing = sandbox.compiled_programs("nsjail")
        assert (missing.value, missing.verdict) == ("not on PATH", "warn")


def test_the_sandbox_alone_fails_only_if_what_is_demanded_cannot_be_had(
    laptop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandbox, "compiled_programs", lambda level: Finding("g++", f"with {level}"))
    for best, code in (("landlock+seccomp", 0), ("seccomp", 1)):
        monkeypatch.setattr(sandbox, "probe", lambda best=best: {**probed(best), "kernel": "6.1.0"})
        assert cli.main(["doctor", "sandbox", "--json"]) == code
        found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
        assert found["isolation"]["verdict"] == ("fail" if code else "warn")
        assert found["g++"]["value"] == f"with {best}"
    assert cli.main(["doctor", "sandbox", "--compute"]) == 2
    assert "the host it runs on" in capsys.readouterr().err
