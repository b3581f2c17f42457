"""The image of containers/train.def, built by a real Apptainer with the torch that pip finds here. Whether that is for
CUDA or not, all is tested but what needs a GPU."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.containers.image import AS_USER, ROOT, Image
from tests.containers.test_apptainer import run

pytestmark = pytest.mark.long

TRAINING = ["--cleanenv", "--no-home"]


def inside(image: Image, *command: str | Path, text: str = "") -> str:
    return run(image, "exec", *TRAINING, image.sif, *command, who=AS_USER, text=text)


def test_the_image_passed_its_own_test_where_it_was_built(train_image: Image) -> None:
    log = train_image.log.read_text(encoding="utf-8")
    assert "codeio: the image answers" in log
    assert re.search(r"^ZeRO-2 in bf16: loss \S+, after five steps \S+$", log, re.M)
    assert re.search(r"^node test of 2 ranks on 1 nodes, CPU$", log, re.M)


def test_its_labels_say_for_which_cuda_it_is(train_image: Image) -> None:
    labels = run(train_image, "inspect", "--labels", train_image.sif)
    look = "import torch; print(torch.__version__, torch.version.cuda)"
    torch, cuda = inside(train_image, "python", "-c", look).split()
    assert f"org.codeio.torch: {torch}\n" in labels and f"org.codeio.cuda: {cuda}\n" in labels
    version = inside(train_image, "codeio", "--version").split()[-1]
    assert f"org.opencontainers.image.version: {version}\n" in labels
    if cuda != "None":
        assert f"CUDA {cuda}, NCCL " in train_image.log.read_text(encoding="utf-8")


def test_every_package_in_the_image_is_locked(train_image: Image) -> None:
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = inside(train_image, "python", "-c", where).strip()
    listed = json.loads(inside(train_image, "python", "-m", "pip", "list", "--format=json", "--path", purelib))
    installed = {re.sub(r"[-_.]+", "-", one["name"]).lower(): one["version"].partition("+")[0] for one in listed}
    assert installed.pop("codeio-hpc")
    lines = (ROOT / "tools" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    assert {"torch", "deepspeed", "transformers"} <= installed.keys()
    assert installed == {name: locked.get(name) for name in installed}


def test_an_ordinary_user_can_test_it_and_nothing_is_written_into_it(train_image: Image) -> None:
    said = run(train_image, "test", *TRAINING, train_image.sif, who=AS_USER)
    assert "codeio: the image answers" in said


def test_what_nccl_needs_to_find_the_network_cards_is_there(train_image: Image) -> None:
    """It loads libibverbs by that name, and that a part for each kind of card; else it takes TCP."""
    load = "import ctypes; print(ctypes.CDLL('libibverbs.so.1'))"
    assert "libibverbs.so.1" in inside(train_image, "python", "-c", load)
    assert "libmlx5" in inside(train_image, "sh", "-c", "ls /usr/lib/*/libibverbs")


def test_its_compiler_works(train_image: Image) -> None:
    """For kernels that are made at run time."""
    command = "cd $(mktemp -d) && gcc -shared -fPIC -xc - -o a.so && g++ --version && ls a.so"
    assert "a.so" in inside(train_image, "sh", "-c", command, text="int one(void) { return 1; }\n")
