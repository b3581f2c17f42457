"""The linter of container recipes: each fault gets its line, and a sound recipe none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.tools.linter import TOOL, lint_def

SOUND = """\
# A comment.
Bootstrap: {{ BOOTSTRAP }}
From: {{ FROM }}

%arguments
    BOOTSTRAP=docker
    FROM=docker.io/library/python:3.11-slim-bookworm
    EXTRA=

%labels
    org.opencontainers.image.title a title

%help
    What it is.

%files
    setup.py /opt/setup.py
    "with space.txt" /opt/other.txt

%post
    set -eu
    apt-get -qq -o APT::Sandbox::User=root install -y --no-install-recommends g++=4:12.2.0-3 \\
        make=4.3-4.1
    apt-get install /mnt/*.deb
    python -m pip install {{ EXTRA }} -c versions.txt '.[all]'
    pip3 install 'numpy==2.4.6' --no-deps ./here
    curl -fsSLO https://example.org/file
    echo "0123  file" | sha256sum --check
    git clone https://example.org/repository
    git -C repository checkout 0123456789012345678901234567890123456789

%test
    python -V
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "setup.py").touch()
    (tmp_path / "with space.txt").touch()
    return tmp_path


def problems(text: str, root: Path) -> list[tuple[int, str]]:
    return [tuple(problem) for problem in lint_def.lint(text, root)]


def test_a_sound_recipe_has_no_problem(root: Path) -> None:
    assert problems(SOUND, root) == []


@pytest.mark.parametrize(
    ("sound", "faulty", "line", "words"),
    [
        (
            "Bootstrap: {{ BOOTSTRAP }}\n",
            "Bootstrap: {{ BOOTSTRAP }}\nArch: amd64\n",
            3,
            "Arch: there is no such header",
        ),
        (
            "Bootstrap: {{ BOOTSTRAP }}\n",
            "Bootstrap: {{ BOOTSTRAP }}\nno colon\n",
            3,
            "a header is written Name: value",
        ),
        ("    BOOTSTRAP=docker", "    BOOTSTRAP=dokcer", 2, "Bootstrap: dokcer: there is no such agent"),
        ("From: {{ FROM }}\n", "Include: {{ FROM }}\n", 2, "Bootstrap: docker needs a From: header"),
        ("python:3.11-slim-bookworm", "python:latest", 3, "another image every few weeks"),
        ("python:3.11-slim-bookworm", "python", 3, "another image every few weeks"),
        ("From: {{ FROM }}\n", "From: debian:12 # {{ FROM }}\n", 3, "a tag can be moved"),
        ("%labels", "%label", 10, "%label: there is no such section; known: arguments,"),
        ("%test", "%appinstall", 32, "%appinstall: of which app?"),
        ("    set -eu\n", "    date +\\\n    %s\n", 22, "Apptainer takes every line whose first character is %"),
        ("{{ EXTRA }}", "{{ EXTRAS }}", 25, "{{ EXTRAS }}: has no default; write EXTRAS=… in %arguments"),
        ("{{ EXTRA }}", "", 8, "EXTRA: nothing uses it; mistyped?"),
        ("{{ EXTRA }}", "{{ EXTRA }} {{ EXTRA-2 }}", 25, "braces that are no {{ NAME }}"),
        ("    EXTRA=\n", "    EXTRA\n", 8, "a build argument is written NAME=default"),
        ("    EXTRA=\n", "    EXTRA=\n    EXTRA=1\n", 9, "EXTRA: has a default already, in line 8"),
        ("    setup.py /opt", "    setup.cfg /opt", 17, "setup.cfg: no such file in"),
        ("    setup.py /opt", "    missing/* /opt", 17, "missing/*: no such file in"),
        ('"with space.txt"', "with space.txt", 18, "one source and one target; quote names with spaces"),
        ("%files", "%files from build", 16, "no stage has Stage: build"),
        ("%files", "%files build", 16, "%files stands alone"),
        ("    set -eu\n", "    set -eu\n    echo $HOME/a b\n", 22, "Double quote to prevent globbing"),
        ("    set -eu\n", "    if true; then\n", 21, "Couldn't parse this if expression"),
        ("    python -V\n", "    [[ -e /x ]]\n", 33, "In POSIX sh, [[ ]] is undefined. (SC3010)"),
        ("%test\n    python -V\n", "", 2, "no %test, or nothing in it"),
        ("    What it is.\n", "    # What it is.\n", 2, "no %help, or nothing in it"),
        ("%labels\n    org.opencontainers.image.title a title\n", "", 2, "no %labels, or nothing in it"),
        ("image.title a title", "image.title", 11, "a label without a value"),
        ("-c versions.txt ", "", 25, "%post: pip: .[all]: any version will do"),
        ("'numpy==2.4.6'", "numpy", 26, "%post: pip: numpy: any version will do"),
        ("--no-deps ./here", "--find-links /mnt ./here", 26, "%post: pip: ./here: any version will do"),
        ("make=4.3-4.1", "make", 22, "%post: apt-get: make: any version will do; write NAME=VERSION"),
        ("/mnt/*.deb", "-y /mnt/*.deb && apt-get upgrade", 24, "apt-get: an upgrade is another one every day"),
        ("    set -eu\n", "    set -eu; if true; then dnf install -y gcc; fi\n", 21, "dnf: gcc: any version will do"),
        ('    echo "0123  file" | sha256sum --check\n', "", 27, "%post: curl: nobody looks at what came"),
        (" checkout 01234567890", " checkout main # 0", 29, "%post: git: a branch moves"),
    ],
)
def test_a_fault_gets_its_line(sound: str, faulty: str, line: int, words: str, root: Path) -> None:
    assert SOUND.count(sound) == 1
    found = problems(SOUND.replace(sound, faulty), root)
    assert any(number == line and words in text for number, text in found), found


def test_scripts_are_checked_in_the_shell_that_runs_them(root: Path) -> None:
    bash = SOUND.replace("%test\n", "%test -c /bin/bash\n").replace("python -V", "[[ -e /x ]]")
    assert problems(bash, root) == []
    assert problems(SOUND.replace("    python -V", "#!/bin/bash\n[[ -e /x ]]"), root) == []
    assert problems(SOUND.replace("    python -V", "#!/usr/bin/python3\nprint(1)"), root) == []


def test_stages_are_told_apart_and_the_last_is_the_one_that_needs_a_test(root: Path) -> None:
    first = "Bootstrap: docker\nFrom: debian@sha256:0123\nStage: build\n\n%post\n    make\n\n"
    assert problems(first + SOUND.replace("%files\n", "%files from build\n    /opt/made /opt\n\n%files\n"), root) == []
    text = SOUND + first  # whose first line has this number
    assert [line for line, words in problems(text, root) if "nothing in it" in words] == [34, 34, 34]


def test_an_empty_recipe_and_one_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.def").write_text("# nothing\n", encoding="utf-8")
    assert lint_def.main([str(tmp_path / "empty.def"), str(tmp_path / "none.def")]) == 2
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path}/empty.def:1: nothing is in it; a recipe begins with Bootstrap: and From:"
    assert second.startswith(f"{tmp_path}/none.def:1: cannot be read: ")


def test_what_cannot_be_checked_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert {text for _, text in problems(SOUND, root)} == {
        f"%{name} was not checked: no shellcheck on PATH; install it" for name in ("post", "test")
    }


def test_the_project_s_recipes_pass_and_lint_calls_it() -> None:
    recipes = [str(path.relative_to(ROOT)) for path in (ROOT / "containers").glob("*.def")]
    done = subprocess.run([sys.executable, TOOL, *recipes], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "tools/lint_def.py containers/*.def" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "what", ["/tmp/*", "'/tmp/x'", "/root/.cache", "$HOME/.cache", "${HOME}/x", "~/x", "/var/tmp/*"]
)
def test_a_recipe_does_not_clean_up_in_folders_of_the_host(root: Path, what: str) -> None:
    """Apptainer has them in a build: it would be the builder's files that are gone."""
    text = SOUND.replace("    set -eu\n", f"    set -eu\n    rm -rf \\\n        /var/log/*.log {what}\n")
    [(line, says)] = [each for each in problems(text, root) if "the host's" in each[1]]
    assert text.splitlines()[line - 1].strip().startswith("rm -rf") and what.strip("'") in says
    assert not problems(SOUND.replace("set -eu", "set -eu; rm -rf /var/tmpfiles /opt/tmp"), root)
    assert not problems(SOUND.replace("python -V", 'rm -rf "/tmp/mine"'), root), "what %test made itself"
