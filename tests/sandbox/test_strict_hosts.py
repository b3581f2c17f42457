"""Hosts that forbid something: without user namespaces the next best level, and always one line that says why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codeio_hpc.sandbox.jail.namespaces import why_no_namespaces

from .without_namespaces import python_without_namespaces

REASON = "user namespaces are off: user.max_user_namespaces is 0"

POOL = """
import json
from codeio_hpc.sandbox import FunctionRequest, Pool, ProgramRequest, ProgramTest, probe
with Pool() as pool:
    result = pool.run(FunctionRequest("f", "def main_solution(x): return x + 1", inputs=[{"x": 1}]))
    program = "#include <iostream>\\nint main() { int a; std::cin >> a; std::cout << a + 1; }"
    request = ProgramRequest("p", program, [ProgramTest("1", "2")], language="cpp")
    compiled = pool.run_program(request).results[0].verdict if COMPILER else "ok"
[one] = result.results
print(json.dumps([result.isolation, one.verdict, one.output, compiled, probe()["levels"]["nsjail"]["why_not"]]))
"""


def test_the_pool_falls_back_to_landlock_and_the_reason_is_one_line() -> None:
    done = python_without_namespaces("-c", POOL.replace("COMPILER", str(bool(shutil.which("g++")))))
    if "no user namespace could be made" in done.stderr:
        pytest.skip("this host has no user namespaces: nothing to take away")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["landlock+seccomp", "ok", 2, "ok", REASON]
    assert not done.stderr, "who asks from Python finds it in each result; nothing is printed"


def test_codeio_exec_says_once_that_the_isolation_is_not_the_strongest(tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    row = {"id": 1, "code": "def main_solution(x): return x", "inputs": [{"x": 1}]}
    requests.write_text((json.dumps(row) + "\n") * 3, encoding="utf-8")
    done = python_without_namespaces("-m", "codeio_hpc", "exec", "--in", str(requests), "--workers", "2")
    if "no user namespace could be made" in done.stderr:
        pytest.skip("this host has no user namespaces: nothing to take away")
    assert done.returncode == 0 and done.stdout.count('"isolation":"landlock+seccomp"') == 3, done
    said = "codeio exec: isolation is landlock+seccomp, as a stronger one cannot be had here: nsjail: "
    assert done.stderr == f"{said}{REASON} (codeio doctor sandbox)\n"


def test_the_check_up_of_such_a_host_names_the_level_and_what_to_change() -> None:
    done = python_without_namespaces("-m", "codeio_hpc", "doctor", "sandbox", "--json")
    if "no user namespace could be made" in done.stderr:
        pytest.skip("this host has no user namespaces: nothing to take away")
    found = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0, done.stdout
    assert (found["isolation"]["value"], found["isolation"]["verdict"]) == ("landlock+seccomp", "warn")
    assert found["isolation"]["fix"] == f"nsjail would cover more: {REASON}"
    assert (found["level nsjail"]["value"], found["level nsjail"]["verdict"]) == (REASON, "warn")
    assert "sysctl user.max_user_namespaces" in found["user namespaces"]["fix"]
    assert found["level landlock+seccomp"]["verdict"] == "pass"


PROGRAM = """
import json
from codeio_hpc.sandbox import Pool, ProgramRequest, ProgramTest
with Pool() as pool:
    result = pool.run_program(ProgramRequest("p", "int main() {}", [ProgramTest("", "")], language="cpp")).results[0]
print(json.dumps([result.verdict, result.error]))
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("g++"), reason="needs root and g++")
def test_where_memory_files_may_not_be_executed_no_program_is_blamed() -> None:
    """The setting belongs to each PID namespace; in a new one it can be made stricter."""
    if not Path("/proc/sys/vm/memfd_noexec").exists():
        pytest.skip("a kernel before 6.3")
    strict = 'echo 2 >/proc/sys/vm/memfd_noexec && exec "$@"'
    command = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", strict, "sh", sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    verdict, error = json.loads(done.stdout)
    assert verdict == "infrastructure" and "vm.memfd_noexec" in error


def test_settings_of_the_kernel_that_forbid_namespaces_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "apparmor_restrict_unprivileged_userns").write_text("1\n", encoding="ascii")
    why = "user namespaces are off: kernel.apparmor_restrict_unprivileged_userns is 1"
    assert why_no_namespaces(tmp_path) == why
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert why_no_namespaces(tmp_path) != why, "which does not bind root"
