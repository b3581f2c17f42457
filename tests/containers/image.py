"""Real images for tests: recipes built by a real Apptainer, as an ordinary user, once for their content."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXEC = ROOT / "containers" / "exec.def"
TRAIN = ROOT / "containers" / "train.def"
CARRY = ROOT / "containers" / "carry.sh"
TOOL = ROOT / "tools" / "apptainer-here"
IS_ROOT = os.geteuid() == 0
CACHE = Path("/var/cache" if IS_ROOT else os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "codeio-hpc"
"""Root's is one that other users can read: jobs of theirs run the image too."""

AS_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--") if IS_ROOT else ()
"""Before a command that must not run as root."""

_LOOPBACK_ONLY = 'ip link set lo up && exec "$@"'
WITHOUT_NETWORK = ("unshare", "--net", "--", "sh", "-c", _LOOPBACK_ONLY, "sh") if IS_ROOT else ()
"""Before a command that must need none; only root can take it away without becoming another user. Loopback is there on
every machine."""

AIR_GAPPED = {"BOOTSTRAP": "localimage", "PACKAGES": "/mnt/*.deb", "PIP": "--no-index --find-links /mnt"}
"""Arguments of the recipes, beside the base; /mnt is there in every base."""

_UNREACHABLE = re.compile(r"Could not resolve|Unable to connect|Could not connect|Failed to fetch|NewConnectionError")


@dataclass(frozen=True)
class Image:
    """An image and what runs it; both may be called by every user."""

    apptainer: Path
    sif: Path
    log: Path
    """What building it printed."""


def sections(recipe: Path) -> dict[str, str]:
    """Section name -> text; the heading's lines are under ''."""
    parts = re.split(r"^%(\w+)\n", recipe.read_text(encoding="utf-8"), flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def files_of(recipe: Path) -> list[Path]:
    """The files that a recipe copies, relative to the checkout."""
    found: list[Path] = []
    for line in filter(str.strip, sections(recipe)["files"].split("\n")):
        source = ROOT / line.split()[0]
        found += [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    return sorted(path.relative_to(ROOT) for path in found if "__pycache__" not in path.parts)


def built_image(recipe: Path) -> Image:
    """The image of this checkout's recipe, built if no test has done so yet; that takes some minutes."""
    apptainer = Path(fetching([TOOL, "install", CACHE / "apptainer"]).strip())
    digest = hashlib.sha256()
    for path in [recipe, CARRY, TOOL, Path(__file__), *(ROOT / file for file in files_of(recipe))]:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    stem = CACHE / "images" / f"{recipe.stem}-{digest.hexdigest()[:16]}"
    image = Image(apptainer, stem.with_suffix(".sif"), stem.with_suffix(".log"))
    stem.parent.mkdir(parents=True, exist_ok=True)
    with (stem.parent / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.sif.exists():
            for other in stem.parent.glob(f"{recipe.stem}-*"):
                if (
                    other.stat().st_mtime < time.time() - 24 * 3600
                ):  # one that another checkout may still be using stays
                    other.unlink()
            built = build(recipe, apptainer, Path(folder), image.log)
            temporary = image.sif.with_suffix(".new")
            shutil.copyfile(built, temporary)
            temporary.rename(image.sif)
    return image


def build(recipe: Path, apptainer: Path, folder: Path, log: Path, flags: Sequence[str] = ()) -> Path:
    """Build in ``folder``, as containers/README.md says for a machine without a network, and without one.

    The base and what is carried over come from where apt and pip of this machine get theirs.
    """
    for file in [*files_of(recipe), *(path.relative_to(ROOT) for path in (recipe, CARRY))]:
        target = folder / "source" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, target)
    source, carried, name = folder / "source", folder / "carried", str(recipe.relative_to(ROOT))
    carried.mkdir()
    fetching([TOOL, "base", folder / "base"])
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # the base's Python knows nothing of pip's mirrors
    fetching(["env", f"PATH={path}", "sh", CARRY, "wheels", carried, name], source)
    if IS_ROOT:
        subprocess.run(["chown", "-R", "65534:65534", folder], check=True)
    # the machine's fakeroot, if it has one, would be a library for another system in the container
    rootless = ["--fakeroot", "--ignore-fakeroot-command"]
    base = [*rootless, "--writable-tmpfs", "--no-home", "--bind", f"{carried}:/mnt", folder / "base"]
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "APPTAINER_TMPDIR": str(folder),
        "SOURCE_DATE_EPOCH": "1700000000",
    }
    carry = ["sh", "containers/carry.sh", "packages", "/mnt", name]
    fetching([*AS_USER, apptainer, "exec", *base, *carry], source, environment)
    # Fast compression: this image is used a few times only.
    options = [*flags, "--bind", f"{carried}:/mnt", "--mksquashfs-args", "-comp zstd -Xcompression-level 3"]
    for argument, value in {**AIR_GAPPED, "FROM": str(folder / "base")}.items():
        options += ["--build-arg", f"{argument}={value}"]
    command = [*WITHOUT_NETWORK, *AS_USER, apptainer, "build", *rootless, *options, folder / "image.sif", name]
    with log.open("wb") as said:
        done = subprocess.run(command, cwd=source, env=environment, stdout=said, stderr=said)
    assert done.returncode == 0, log.read_text(encoding="utf-8", errors="replace")[-4000:]
    return folder / "image.sif"


def fetching(command: Sequence[str | Path], cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Run what needs the package mirrors; without a way to them the test is skipped, and says so."""
    done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode and _UNREACHABLE.search(done.stderr):
        pytest.skip(f"no image can be built: {Path(command[0]).name} reached no mirror: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
