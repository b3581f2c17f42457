"""The image of containers/exec.def, built by a real Apptainer: what is in it, and that it isolates what it runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.containers.image import AS_USER, IS_ROOT, ROOT, ExecImage

pytestmark = pytest.mark.long

CONTAINED = ["--cleanenv", "--no-home", "--containall"]
REQUEST = {
    "id": "r",
    "code": "def main_solution(x): return x + 1",
    "entry_point": "main_solution",
    "inputs": [{"x": 1}],
}


def run(image: ExecImage, *arguments: str | Path, who: Sequence[str] = (), text: str = "") -> str:
    """Standard output of Apptainer; the folder of the test is not one that others may enter."""
    command = [*who, image.apptainer, *arguments]
    done = subprocess.run(command, cwd="/", input=text, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def inside(image: ExecImage, *command: str, flags: Sequence[str] = ()) -> str:
    return run(image, "exec", *CONTAINED, *flags, image.sif, *command)


def test_the_image_passed_its_own_test_and_says_what_it_is(exec_image: ExecImage) -> None:
    assert "codeio: the image answers" in exec_image.log.read_text(encoding="utf-8")
    labels = run(exec_image, "inspect", "--labels", exec_image.sif)
    version = inside(exec_image, "codeio", "--version").split()[-1]
    assert f"org.opencontainers.image.version: {version}" in labels
    assert "apptainer run" in run(exec_image, "run-help", exec_image.sif)


def test_every_package_in_the_image_is_locked(exec_image: ExecImage) -> None:
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = inside(exec_image, "python", "-c", where).strip()
    listed = json.loads(inside(exec_image, "python", "-m", "pip", "list", "--format=json", "--path", purelib))
    installed = {re.sub(r"[-_.]+", "-", one["name"]).lower(): one["version"] for one in listed}
    assert installed.pop("codeio-hpc")
    lines = (ROOT / "tools" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    assert len(installed) > 10
    assert installed == {name: locked.get(name) for name in installed}


def test_nothing_lies_where_a_container_mounts_something_else(exec_image: ExecImage) -> None:
    assert inside(exec_image, "ls", "-A", "/home", "/root", "/tmp", flags=["--no-mount", "tmp,home"]).split() == [
        "/home:",
        "/root:",
        "/tmp:",
    ]


def test_bytecode_is_there_and_stays_valid(exec_image: ExecImage) -> None:
    """Its flags say that it goes by no time and is not checked (PEP 552)."""
    look = "import json, numpy; [print(open(m.__cached__, 'rb').read(8)[4:].hex()) for m in (json, numpy)]"
    assert inside(exec_image, "python", "-c", look).split() == ["01000000", "01000000"]


@pytest.mark.parametrize("flags", [[], ["--net", "--network", "none"]], ids=["network", "no-network"])
@pytest.mark.parametrize("who", [[], AS_USER] if IS_ROOT else [[]], ids=["root", "user"] if IS_ROOT else ["user"])
def test_untrusted_code_runs_in_nsjail_in_the_container(
    exec_image: ExecImage, who: Sequence[str], flags: list[str]
) -> None:
    command = ["exec", *CONTAINED, *flags, exec_image.sif, "codeio", "exec", "--isolation", "nsjail"]
    answer = json.loads(run(exec_image, *command, who=who, text=json.dumps(REQUEST) + "\n"))
    assert answer["results"][0]["verdict"] == "ok" and answer["results"][0]["output"] == 2
    assert answer["isolation"] == "nsjail"


def test_an_image_can_be_signed_and_a_changed_one_is_refused(exec_image: ExecImage, tmp_path: Path) -> None:
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
