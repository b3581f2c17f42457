"""Whom a jail runs as."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeio_hpc.sandbox.jail import nsjail


@pytest.mark.parametrize(
    ("uid", "uid_map", "nobody", "missing"),
    [
        (0, "0 0 4294967295", True, False),
        (0, "0 1000 1\n1 100000 65536", True, False),
        (0, "0 1000 1", False, False),
        (0, "0 0 1", True, True),
        (1000, "0 0 4294967295", False, False),
    ],
    ids=["root", "root with other ids", "an ordinary user as root", "root with no other id", "an ordinary user"],
)
def test_root_s_jails_are_nobody_s_unless_root_is_an_ordinary_user_outside(
    uid: int, uid_map: str, nobody: bool, missing: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "uid_map"
    path.write_text(uid_map, encoding="ascii")
    monkeypatch.setattr(nsjail, "UID_MAP", path)
    monkeypatch.setattr(nsjail.os, "geteuid", lambda: uid)
    assert nsjail.runs_as_nobody() is nobody
    assert nsjail.nobody_is_missing() is missing
