"""Where sites are looked for, what a policy makes of them, and one read-only installation for all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeio_hpc.config import policy
from codeio_hpc.errors import UserError
from codeio_hpc.launch.commands import read_config, resume
from codeio_hpc.launch.run import create_or_open_run
from codeio_hpc.launch.sites import files
from codeio_hpc.launch.sites.files import chosen_site, find_file, find_site, load_site

ROOT = Path(__file__).parents[2]
SITE = "name: {name}\nresources: {{cpu: {{time: 30m}}}}\nmax_tasks_at_once: {tasks}\n"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The three places, in their order; the working directory's, the project's, the machine's."""
    machine = tmp_path / "etc" / "sites"
    found = [tmp_path / "work" / "configs" / "sites", tmp_path / "home" / "configs" / "sites", machine]
    for folder in found:
        folder.mkdir(parents=True)
    monkeypatch.setattr(files, "MACHINE_SITES", machine)
    monkeypatch.setattr(policy, "POLICY_FILES", (tmp_path / "etc" / "policy.yaml", tmp_path / "policy.yaml"))
    monkeypatch.setenv("CODEIO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CODEIO_SITE", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return found


def put(folder: Path, name: str, tasks: int) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SITE.format(name=name, tasks=tasks))
    return path


def test_a_site_is_looked_for_here_then_in_the_project_then_on_the_machine(folders: list[Path]) -> None:
    for tasks, folder in ((3, folders[2]), (2, folders[1]), (1, folders[0])):
        put(folder, "lab", tasks)
        assert load_site("lab").max_tasks_at_once == tasks
    other = put(folders[2].parent, "elsewhere", 9)
    assert find_site(str(other)) == other


def test_a_site_that_is_nowhere_is_answered_with_those_that_are(folders: list[Path]) -> None:
    put(folders[0], "near", 1)
    put(folders[2], "far", 1)
    with pytest.raises(UserError, match="known sites: far, near; or have one written: codeio site init mine"):
        load_site("mine")


def test_a_path_is_one_from_here_else_one_of_the_project_s_folder(
    folders: list[Path], small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folders[1].parents[1]
    (home / "runs").mkdir()
    text = small_config.read_text().replace(f"{ROOT}/", "")
    assert "recipe: configs/models/" in text
    (home / "runs" / "small.yaml").write_text(text)
    (home / "configs" / "runs" / "ablations").mkdir(parents=True)
    (home / "configs" / "runs" / "ablations" / "seven.yaml").write_text("seed: 7\n")
    for name in ("configs/models", "tests"):
        (home / name).symlink_to(ROOT / name)
    assert find_file("runs/small.yaml") == home / "runs" / "small.yaml"
    config = read_config(Path("runs/small.yaml"), [], ["seven"])
    assert config.seed == 7 and config.recipe is not None
    assert config.recipe.startswith(f"{home}/configs/models/")
    assert {source.path for source in config.sources} == {f"{home}/tests/sources"}

    Path("runs").mkdir()
    Path("runs/small.yaml").write_text(text.replace("seed: 5", "seed: 6"))
    assert read_config(Path("runs/small.yaml"), []).seed == 6
    assert find_file("nowhere.yaml") == Path("nowhere.yaml")
    monkeypatch.delenv("CODEIO_HOME")
    assert find_file("configs/models") == Path("configs/models")


def test_without_a_name_the_variable_then_the_default_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODEIO_SITE", raising=False)
    assert chosen_site(None) == "default"
    monkeypatch.setenv("CODEIO_SITE", "lab")
    assert (chosen_site(None), chosen_site("other")) == ("lab", "other")


def test_what_a_policy_lowers_is_said_once(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    put(folders[0], "lab", 64)
    policy.POLICY_FILES[0].write_text("max_tasks_at_once: 8\n")
    assert load_site("lab").max_tasks_at_once == 8
    captured = capsys.readouterr()
    assert captured.out == ""
    said = f"codeio: configs/sites/lab.yaml: max_tasks_at_once 64 is lowered to 8 by {policy.POLICY_FILES[0]}\n"
    assert captured.err == said


def test_a_run_that_accepts_too_little_isolation_is_refused_before_anything_is_done(
    folders: list[Path], small_config: Path, tmp_path: Path
) -> None:
    weak = read_config(small_config, ["sandbox.minimum=seccomp"])
    create_or_open_run(tmp_path / "older", weak)
    policy.POLICY_FILES[1].write_text("minimum_isolation: landlock+seccomp\n")
    read_config(small_config, [])
    with pytest.raises(UserError, match=str(policy.POLICY_FILES[1])):
        read_config(small_config, ["sandbox.minimum=seccomp"])
    with pytest.raises(UserError, match=str(policy.POLICY_FILES[1])):
        resume(tmp_path / "older", None, False, True)


# -- as administrators install it --------------------------------------------------------------------------------------


@pytest.fixture
def installation() -> Iterator[Path]:
    """The project, copied to where nobody may write, with an environment of its own that holds a policy."""
    folder = Path(tempfile.mkdtemp(prefix="shared-", dir="/tmp"))
    for name in ("codeio_hpc", "configs", "tests/sources"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = folder / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (environment / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    library = environment / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    library.mkdir(parents=True)
    (library / "shared.pth").write_text(f"{folder}\n{sysconfig.get_path('purelib')}\n")
    etc = environment / "etc" / "codeio-hpc"
    etc.mkdir(parents=True)
    (etc / "policy.yaml").write_text("minimum_isolation: landlock+seccomp\nmax_tasks_at_once: 2\n")
    subprocess.run(["chmod", "-R", "a-w,a+rX", folder], check=True)
    yield folder
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)


@pytest.fixture
def place() -> Iterator[Path]:
    """Where an ordinary user works."""
    folder = Path(tempfile.mkdtemp(prefix="user-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def as_user(installation: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the installation, typed in ``place`` by somebody who may not write to it."""
    # root writes everywhere, unless it gives that right away
    modest = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    python = installation / "venv" / "bin" / "python"
    return subprocess.run(
        [*modest, python, "-m", "codeio_hpc", *arguments],
        cwd=place,
        env={"PATH": os.environ["PATH"], "HOME": str(place), "CODEIO_HOME": str(installation)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_read_only_installation_serves_users_who_work_elsewhere(installation: Path, place: Path) -> None:
    before = sorted(installation.rglob("*"))
    (place / "mine.yaml").write_text(
        "name: mine\nsources: [{name: here, path: tests/sources, licence: Apache-2.0}]\n"
        "recipe: configs/models/tiny.yaml\nsample: {pairs: 2}\nteacher: {kind: tracer}\n"
    )
    built = as_user(installation, place, "build", "mine.yaml", "--json")
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["state"] == "complete"
    assert (place / "runs" / "mine" / "run.json").is_file()

    flags = as_user(installation, place, "site", "flags", "train", "--site", "box")
    assert "--partition=gpu_low" in flags.stdout.splitlines(), flags.stderr
    policy_file = installation / "venv" / "etc" / "codeio-hpc" / "policy.yaml"
    assert f"max_tasks_at_once 4 is lowered to 2 by {policy_file}" in flags.stderr

    refused = as_user(installation, place, "build", "mine.yaml", "sandbox.minimum=none", "--run", "runs/weak")
    assert refused.returncode == 2 and f"{policy_file} demands at least 'landlock+seccomp'" in refused.stderr
    (place / "requests.jsonl").write_text("")
    refused = as_user(installation, place, "exec", "--in", "requests.jsonl", "--isolation", "none")
    assert refused.returncode == 2 and str(policy_file) in refused.stderr

    assert sorted(installation.rglob("*")) == before
