"""The image of containers/exec.def, built by a real Apptainer: what is in it, and that it isolates what it runs."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from codeio_hpc.sandbox import LEVELS
from codeio_hpc.sandbox.jail.nsjail import CONTAINER_BINARY
from tests.containers.image import AS_USER, EXEC, IS_ROOT, ROOT, Image, build
from tests.tools.linter import recipe

pytestmark = pytest.mark.long

CONTAINED = ["--cleanenv", "--no-home", "--containall"]
REQUEST = {
    "id": "r",
    "code": "def main_solution(x): return x + 1",
    "entry_point": "main_solution",
    "inputs": [{"x": 1}],
}


def run(image: Image, *arguments: str | Path, who: Sequence[str] = (), text: str = "") -> str:
    """Standard output of Apptainer; the folder of the test is not one that others may enter."""
    command = [*who, image.apptainer, *arguments]
    done = subprocess.run(command, cwd="/", input=text, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    return done.stdout


def inside(image: Image, *command: str, flags: Sequence[str] = ()) -> str:
    return run(image, "exec", *CONTAINED, *flags, image.sif, *command)


def test_the_image_passed_its_own_test_and_says_what_it_is(exec_image: Image) -> None:
    log = exec_image.log.read_text(encoding="utf-8")
    assert "codeio: the image answers" in log
    assert re.search(r"^pass +level nsjail .*proved", log, re.M)
    assert re.search(r"^pass +g\+\+ .*compiled and run at level nsjail", log, re.M)
    labels = run(exec_image, "inspect", "--labels", exec_image.sif)
    version = inside(exec_image, "codeio", "--version").split()[-1]
    assert f"org.opencontainers.image.version: {version}" in labels
    assert "apptainer run" in run(exec_image, "run-help", exec_image.sif)


def test_every_package_in_the_image_is_locked(exec_image: Image) -> None:
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = inside(exec_image, "python", "-c", where).strip()
    listed = json.loads(inside(exec_image, "python", "-m", "pip", "list", "--format=json", "--path", purelib))
    installed = {re.sub(r"[-_.]+", "-", one["name"]).lower(): one["version"] for one in listed}
    assert installed.pop("codeio-hpc")
    lines = (ROOT / "tools" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    assert len(installed) > 10
    assert installed == {name: locked.get(name) for name in installed}


def test_nothing_lies_where_a_container_mounts_something_else(exec_image: Image) -> None:
    assert inside(exec_image, "ls", "-A", "/home", "/root", "/tmp", flags=["--no-mount", "tmp,home"]).split() == [
        "/home:",
        "/root:",
        "/tmp:",
    ]


def test_bytecode_is_there_and_stays_valid(exec_image: Image) -> None:
    """Its flags say that it goes by no time and is not checked (PEP 552)."""
    look = "import json, numpy; [print(open(m.__cached__, 'rb').read(8)[4:].hex()) for m in (json, numpy)]"
    assert inside(exec_image, "python", "-c", look).split() == ["01000000", "01000000"]


@pytest.mark.parametrize("flags", [[], ["--net", "--network", "none"]], ids=["network", "no-network"])
@pytest.mark.parametrize("who", [[], AS_USER] if IS_ROOT else [[]], ids=["root", "user"] if IS_ROOT else ["user"])
def test_untrusted_code_runs_in_nsjail_in_the_container(
    exec_image: Image, who: Sequence[str], flags: list[str]
) -> None:
    command = ["exec", *CONTAINED, *flags, exec_image.sif, "codeio", "exec", "--isolation", "nsjail"]
    answer = json.loads(run(exec_image, *command, who=who, text=json.dumps(REQUEST) + "\n"))
    assert answer["results"][0]["verdict"] == "ok" and answer["results"][0]["output"] == 2
    assert answer["isolation"] == "nsjail"


def test_the_check_up_inside_finds_the_image_s_nsjail_and_its_compiler(exec_image: Image) -> None:
    command = ["run", *CONTAINED, exec_image.sif, "doctor", "sandbox", "--json"]
    found = {each["name"]: each for each in json.loads(run(exec_image, *command, who=AS_USER))["findings"]}
    assert {found[f"level {level}"]["verdict"] for level in LEVELS} == {"pass"}
    assert found["nsjail"]["value"] == f"{CONTAINER_BINARY} (from: image)"
    assert found["g++"]["value"].endswith("; a program was compiled and run at level nsjail")


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="codeio-image-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_no_attack_of_the_suite_gets_through_inside(exec_image: Image, shared: Path) -> None:
    """The whole suite, by the image's interpreter and the image's codeio; pytest, which it has not, comes along."""
    (shared / "packages").mkdir()
    for name in ("pytest", "_pytest", "pluggy", "iniconfig", "py"):
        spec = importlib.util.find_spec(name)
        assert spec and spec.origin
        if spec.submodule_search_locations:
            shutil.copytree(spec.submodule_search_locations[0], shared / "packages" / name)
        else:
            shutil.copy(spec.origin, shared / "packages")
    shutil.copytree(ROOT / "tests", shared / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", shared)
    command = ["exec", *CONTAINED, "--bind", f"{shared}:/mnt:ro", "--pwd", "/mnt", "--env", "PYTHONPATH=/mnt/packages"]
    suite = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/sandbox/test_attacks.py"]
    printed = run(exec_image, *command, exec_image.sif, "python", *suite, who=AS_USER)
    listed = subprocess.run([sys.executable, *suite, "--collect-only"], cwd=ROOT, capture_output=True, text=True)
    done = re.search(r"^(\d+) passed, 2 skipped in", printed, re.M)  # those two start as root, to become a user
    there = re.search(r"^(\d+) tests collected", listed.stdout, re.M)
    assert done and there and int(done[1]) + 2 == int(there[1]), printed[-3000:]


def dump_squashfs(image: Image, target: Path) -> None:
    """The file system in a .sif, by the commands of containers/README.md."""
    [number] = re.findall(r"^(\d+) .*Squashfs/\*System", run(image, "sif", "list", image.sif), re.M)
    with target.open("wb") as file:
        subprocess.run([image.apptainer, "sif", "dump", number, image.sif], stdout=file, check=True)


def unsquashfs(image: Image, *arguments: str | Path) -> str:
    """Squashfs's own reader, which came with Apptainer."""
    command = [image.apptainer.parents[1] / "root" / "usr" / "bin" / "unsquashfs", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_what_enroot_is_given_is_a_squashfs_with_the_environment_that_it_reads(exec_image: Image, shared: Path) -> None:
    """Enroot itself is not here."""
    dump_squashfs(exec_image, shared / "exec.sqsh")
    environment = unsquashfs(exec_image, "-cat", shared / "exec.sqsh", "etc/environment").splitlines()
    assert "PYTHONNOUSERSITE=1" in environment and environment[0].startswith("PATH=/usr/local/sbin:/usr/local/bin:")


def content(folder: Path) -> dict[str, str]:
    """What is in each file, what each link names, and the permissions, by path."""
    found = {}
    for path in folder.rglob("*"):
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            found[str(path.relative_to(folder))] = os.readlink(path)
        elif stat.S_ISREG(facts.st_mode):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = f"{stat.S_IMODE(facts.st_mode):o} {digest}"
    return found


def test_a_second_build_has_the_same_files(exec_image: Image, shared: Path) -> None:
    (shared / "again").mkdir()
    again = build(EXEC, exec_image.apptainer, shared / "again", shared / "log", ["--sandbox"])
    dump_squashfs(exec_image, shared / "exec.sqsh")
    unsquashfs(exec_image, "-quiet", "-no-progress", "-dest", shared / "first", shared / "exec.sqsh")
    first, second = content(shared / "first"), content(again)
    assert len(first) > 10_000
    different = {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    # the build's date, and the base's path, which is an argument
    assert different <= {f".singularity.d/{name}" for name in ("labels.json", "Apptainer", "Singularity")}


def test_the_linter_and_apptainer_know_the_same_headers_and_sections(exec_image: Image, shared: Path) -> None:
    """An empty image is built from each recipe; Apptainer reads the whole of it before it builds."""

    def accepted(headers: str, sections: str = "") -> bool:
        (shared / "x.def").write_text(f"Bootstrap: scratch\n{headers}\n{sections}", encoding="ascii")
        command = [*AS_USER, exec_image.apptainer, "build", "--force", "--sandbox", out / "x", shared / "x.def"]
        done = subprocess.run(
            command, cwd=out, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": str(out)}
        )
        assert done.returncode == 0 or re.search("invalid (header|section)", done.stderr), done.stderr
        return done.returncode == 0

    out = shared / "out"
    out.mkdir()
    out.chmod(0o777)
    harmless = {"bootstrap", "stage", "fingerprints", "include"}
    assert accepted("\n".join(f"{name}: x" for name in sorted(recipe.HEADERS - harmless)))
    known = recipe.SECTIONS - {"files", "setup", "pre", "post", "arguments"}
    assert accepted("", "\n".join(f"%{name}\n" for name in sorted(known)))
    for name in ("Arch", "Keyserver", "InstallPkgs", "Confdef"):
        assert name.lower() not in recipe.HEADERS and not accepted(f"{name}: x"), name
    for name in ("%label", "%tests", "  %post"):
        assert name.strip("% ") not in recipe.SECTIONS or name.startswith(" ")
        assert not accepted("", f"{name}\n    true\n"), name


def test_an_image_can_be_signed_and_a_changed_one_is_refused(exec_image: Image, tmp_path: Path) -> None:
    """The commands of containers/README.md."""
    private, public, image = tmp_path / "private.pem", tmp_path / "public.pem", tmp_path / "exec.sif"
    shutil.copyfile(exec_image.sif, image)
    subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    run(exec_image, "sign", "--key", private, image)
    run(exec_image, "verify", "--key", public, image)
    with image.open("r+b") as file:
        file.seek(10_000_000)
        byte = file.read(1)
        file.seek(10_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(AssertionError, match="integrity"):
        run(exec_image, "verify", "--key", public, image)
