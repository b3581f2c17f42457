"""Each file of tests/attacks is run in a jail; it must get nothing, and the sample after it must find a clean world."""

from __future__ import annotations

import ast
import functools
import json
import os
import shutil
import site
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import codeio_hpc
from codeio_hpc.sandbox import FunctionRequest, Limits, Pool, ProgramRequest, ProgramTest
from codeio_hpc.sandbox.jail.compiler import CompilationError, compile_program
from codeio_hpc.sandbox.jail.start import STAGING
from codeio_hpc.sandbox.languages import find_language
from codeio_hpc.sandbox.policy import LEVELS, Kind

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "attacks"
INSTALLED = any(Path(codeio_hpc.__file__).is_relative_to(folder) for folder in site.getsitepackages())
"""Whether the toolkit itself is a library of this interpreter, rather than a checkout beside it."""

LIMITS = Limits(cpu_seconds=10, memory_bytes=512 * 2**20)
SHORT = Limits(cpu_seconds=0.1, wall_seconds=0.1, memory_bytes=512 * 2**20)
"""Of attacks that are to end with a timeout."""

ENDINGS = {
    "functions/forge_frames": "no_result",
    "functions/send_two_results": "no_result",
    "functions/leave_early": "no_result",
    "functions/flood_the_answer": "output_too_large",
    "functions/thread_bomb": "exception",  # "can't start new thread"
    "functions/memory_bomb": "memory|forbidden|exception|timeout",  # a mapping that fails is an OSError
    "functions/ignore_signals": "timeout",
    "functions/catch_everything": "timeout",
    "functions/sleep_for_ever": "timeout",
    "functions/drown_in_output": "timeout",
    "functions/hold_the_interpreter": "timeout",
    "functions/end_the_main_thread": "timeout",
    "functions/crash_the_interpreter": "crashed",
    "functions/exhaust_the_stack": "crashed|exception|memory",
    "functions/calls_of_another_architecture": "crashed",
    "functions/calls_of_the_second_table": "crashed",
    "functions/json_tricks": "not_json",
    "functions/patch_the_builtins": "ok|not_json|no_result|exception|crashed",
    "functions/close_everything": "no_result",
    "functions/late_threads": "ok|no_result",  # either its own result, or a spoilt one
    "functions/patch_the_interpreter": "ok|no_result",
    "functions/answer_from_handlers": "ok|no_result|exception",
    "functions/answer_from_finalisers": "ok|no_result",
    "functions/send_a_key_twice": "no_result",
    "functions/send_a_long_number": "no_result",
    "functions/send_an_unknown_status": "no_result",
    "functions/send_another_encoding": "no_result",
    "functions/send_broken_text": "no_result",
    "functions/send_deep_arrays": "no_result",
    "functions/send_half_a_character": "no_result",
    "functions/send_infinity": "no_result",
    "functions/send_no_object": "no_result",
    "functions/send_not_a_number": "no_result",
    "programs/flood_the_document": "output_too_large",
    "programs/flood_the_output": "output_too_large",
    "programs/close_the_output_and_hang": "timeout",
    "programs/hang_at_its_end": "timeout",
    "programs/leave_the_main_thread": "timeout",
    "programs/take_all_memory": "timeout|memory",
    "programs/fail_with_a_hostile_exception": "exception|memory",
    "programs/replace_what_prints": "ok|exception",
    "native/exhaust_the_stack": "crashed",
    "native/other_system_calls": "crashed",
    "native/flood_the_output": "output_too_large",
    "native/take_all_memory": "memory",
    "native/ignore_signals": "timeout",
    "native/sleep_for_ever": "timeout",
}
"""How an attack ends that does not report what got through; the others end well and report nothing."""

_NAMES = "Landlock restricts what is opened, not what is looked at"
_PROCESSES = "without a namespace the numbers of processes are the host's"
_THREADS = "without a namespace the kernel would count the user's other processes too; memory and CPU time end it"
_HOST = "without a namespace there is one name"
_FILES = "what the user may read, files of /proc among it, a filter of system calls alone does not keep from the sample"
NOT_PROMISED: dict[str, dict[str, str]] = {
    "nsjail": {},
    "landlock+seccomp": {
        "functions/look_at_host_files": _NAMES,
        "functions/find_other_processes": _PROCESSES,
        "functions/read_host_names": _HOST,
        "functions/bomb_of_small_threads": _THREADS,
        "native/bomb_of_threads": _THREADS,
        "compiler/look_for_host_files": _NAMES,
    },
    "seccomp": {
        "functions/look_at_host_files": _FILES,
        "functions/find_other_processes": _PROCESSES,
        "functions/read_host_names": _HOST,
        "functions/bomb_of_small_threads": _THREADS,
        "functions/escape_by_paths": _FILES,
        "functions/escape_by_descriptors": _FILES,
        "functions/change_root": _FILES,
        "functions/import_the_house": _FILES,
        "functions/open_memory_of_others": _FILES,
        "functions/type_into_the_terminal": _FILES,
        "programs/be_another_module": _FILES,
        "native/bomb_of_threads": _THREADS,
        "native/execute": "any program may be executed: the filter stays",
    },
    "none": {},
}
"""What a level does not promise to refuse, and why. Even there the world stays clean for the next sample."""

if INSTALLED:  # in the container image; in a checkout no sample may find it
    for level in ("nsjail", "landlock+seccomp"):
        for name in ("functions/import_the_house", "programs/be_another_module"):
            NOT_PROMISED[level][name] = "the toolkit is then one of the libraries that the interpreter may read"

BEFORE = """
MARK = "PREVIOUS" + "-SAMPLE-" + "MARK"
def main_solution(text):
    return (text + MARK) * 1000
"""

WITNESS = """
import builtins, fcntl, gc, json, math, os, random, resource, signal, sys, threading

def main_solution(numbers):
    seen = {
        "sum": sum(numbers),
        "files": [p for f in ("/tmp", "/dev/shm", "/", "/dev", "/var/tmp") for e in ("", "-d", "-l", "-h", "-p", "-r")
                  if os.path.lexists(p := os.path.join(f, "codeio-attack" + e))],
        "threads": threading.active_count(),
        "processors": sorted(os.sched_getaffinity(0)),
        "scheduler": os.sched_getscheduler(0),
        "limits": [list(resource.getrlimit(n)) for n in (0, 1, 2, 3, 4, 5, 7, 8, 9)],
        "random": random.random(),
        "hash": hash("witness"),
        "pi": math.pi,
        "builtins": len(dir(builtins)),
        "recursion": sys.getrecursionlimit(),
        "modules": sorted(sys.modules),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "groups": [os.getuid(), os.getgid(), *os.getgroups()],
        "json": json.dumps({"a": [1]}),
        "descriptors": [n for n in range(64) if is_open(n)],
        "flags": [fcntl.fcntl(n, fcntl.F_GETFL) for n in range(3)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "timer": signal.getitimer(signal.ITIMER_REAL),
    }
    return seen

def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
"""

ECHO = {
    "python": "import sys\nsys.stdout.write(sys.stdin.read())\n",
    "cpp": "#include <stdio.h>\nint main() { for (int c; (c = getchar()) >= 0;) putchar(c); }\n",
}
INPUT = "line\n" * 200_000
"""More than a pipe holds: an attack that does not read it must not keep whoever writes it."""


@pytest.fixture(scope="module", autouse=True)
def each_program_is_compiled_once() -> Iterator[None]:
    """Not at every level: the level at which it runs is what is tested, and seccomp alone compiles nothing."""

    @functools.cache
    def compiled(language: str, source: str) -> bytes:
        return compile_program(find_language(language), source, {}, "landlock+seccomp")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "codeio_hpc.sandbox.jails.compile_program", lambda language, source, *_: compiled(language.name, source)
        )
        yield


@pytest.fixture(scope="module")
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODEIO_ATTACKED", "WORKER-SECRET-MARK")
        with Pool(level=request.param) as pool:
            yield pool


@pytest.fixture(scope="module")
def clean_world(pool: Pool) -> dict[Kind, object]:
    return {kind: witness(pool, kind) for kind in ("plain", "native")}


def witness(pool: Pool, kind: Kind) -> object:
    request = FunctionRequest("witness", WITNESS, inputs=[{"numbers": [1, 2, 3]}], limits=LIMITS, kind=kind)
    (result,) = pool.run(request).results
    assert result.verdict == "ok", result
    return result.output


def echo(pool: Pool, language: str, text: str) -> None:
    (result,) = pool.run_program(ProgramRequest("echo", ECHO[language], [ProgramTest(text, text)], language)).results
    assert result.verdict == "ok" and result.correct, result


def attacked(pool: Pool, attack: Path, limits: Limits) -> tuple[str, list[object]]:
    """How the attack ended, and what got through."""
    code = attack.read_text(encoding="utf-8")
    if attack.parent.name == "functions":
        request = FunctionRequest("attack", code, inputs=[{}], expected=["EXPECTED-OUTPUT-MARK"], limits=limits)
        (execution,) = pool.run(request).results
        assert not execution.correct
        return execution.verdict, [execution.output] if execution.output else []
    language = "cpp" if attack.suffix == ".cpp" else "python"
    tests = [ProgramTest(INPUT, "EXPECTED-OUTPUT-MARK")]
    told = pool.run_program(ProgramRequest("attack", code, tests, language, limits=limits))
    (result,) = told.results
    assert told.compile_error is None and not result.correct
    return result.verdict, [*result.stdout[:1000].splitlines()]


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((FOLDER / folder).glob("*.[cp]*"))]


def name_of(attack: Path) -> str:
    return f"{attack.parent.name}/{attack.stem}"


def attempts() -> Iterator[object]:
    """Every attack at every level; where there is no isolation, those on the limits, which is all that it promises."""
    for level in LEVELS:
        for attack in files("functions", "programs", "native"):
            endings = set(ENDINGS.get(name_of(attack), "ok").split("|"))
            if level != "none" or endings & {"timeout", "output_too_large"}:
                yield pytest.param(level, attack, id=f"{level}-{name_of(attack)}")


@pytest.mark.parametrize(("pool", "attack"), attempts(), indirect=["pool"])
def test_an_attack_gets_nothing_and_leaves_nothing(pool: Pool, clean_world: dict[Kind, object], attack: Path) -> None:
    name = name_of(attack)
    endings = ENDINGS.get(name, "ok").split("|")
    level = pool.jails.level
    kind: Kind = "native" if attack.suffix == ".cpp" else "plain"
    pool.run(FunctionRequest("before", BEFORE, inputs=[{"text": "x"}], limits=LIMITS, kind=kind))
    echo(pool, "cpp" if kind == "native" else "python", "PREVIOUS-SAMPLE-MARK" * 1000)
    jail = pool.jails.running[kind]

    verdict, through = attacked(pool, attack, SHORT if "timeout" in endings else LIMITS)

    if name not in NOT_PROMISED[level]:
        assert verdict in endings, f"{verdict}: {through}"
        assert name in ENDINGS or not through, "this got through"
    assert witness(pool, kind) == clean_world[kind]
    echo(pool, "cpp" if kind == "native" else "python", "the next one's\n")
    assert pool.jails.running[kind] is jail, "the attack cost the jail"


def compilations() -> Iterator[object]:
    """Every source at both levels that confine compilers; what takes all the time it gets, once only in short."""
    for attack in files("compiler"):
        for level in ("nsjail", "landlock+seccomp"):
            long = attack.stem.startswith("endless") and level != "nsjail"
            if name_of(attack) not in NOT_PROMISED[level]:
                yield pytest.param(level, attack, id=f"{level}-{attack.stem}", marks=[pytest.mark.long] if long else [])


@pytest.mark.parametrize(("level", "attack"), compilations())
def test_a_source_makes_the_compiler_tell_and_do_nothing(level: str, attack: Path) -> None:
    limits = Limits(cpu_seconds=1, wall_seconds=20, memory_bytes=2**30, output_bytes=2**20)
    language = replace(find_language("cpp"), limits=limits)
    started = time.monotonic()
    with pytest.raises(CompilationError) as caught:
        compile_program(language, attack.read_text(encoding="utf-8"), {}, level)
    for piece in ("root:", "PATH="):
        assert piece not in str(caught.value), "a line of the host's files"
    assert len(str(caught.value)) <= 2**16
    assert time.monotonic() - started < 30


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests run as an ordinary user already")
@pytest.mark.parametrize("which", ["nsjail-programs", pytest.param("", marks=pytest.mark.long)])
def test_the_jails_of_an_ordinary_user_hold_too(which: str) -> None:
    """A sample of the attacks; all of them at all levels in the long form."""
    way = json.dumps([str(ROOT), sys.executable, sys.prefix, sys.base_prefix])
    as_nobody = [str(shutil.which("setpriv")), *["--reuid=65534", "--regid=65534", "--clear-groups", "--"]]
    words = [sys.executable, "-I", "-S", str(STAGING), way, *as_nobody, sys.executable, "-B", "-m", "pytest", "-m", ""]
    words += ["-q", "-p", "no:cacheprovider"]
    words += ["-k", f"an_attack and {which}"] if which else []
    done = subprocess.run([*words, __file__], cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_every_attack_says_what_it_tries() -> None:
    paths = files("functions", "programs", "native", "compiler")
    assert len(paths) >= 75
    for path in paths:
        text = path.read_text(encoding="utf-8")
        comment = text.partition("\n")[0].removeprefix("// ")
        said = ast.get_docstring(ast.parse(text)) if path.suffix == ".py" else comment
        assert said and said.endswith("."), path
    names = set(map(name_of, paths))
    assert set(ENDINGS) <= names and {name for level in NOT_PROMISED.values() for name in level} <= names
