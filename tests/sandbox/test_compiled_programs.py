"""Compiled programs and compiled checkers: judged like others, and a compiler's troubles are told from the code's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox import Checker, Limits, Pool
from codeio_hpc.sandbox.languages import CPP, LANGUAGES
from tests.sandbox.asking import LEVELS, run, run_one

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here; tools/system-packages installs it")

SUM = "#include <iostream>\nint main() { long a, b; std::cin >> a >> b; std::cout << a + b << '\\n'; }\n"


def test_a_compiled_program_is_judged_like_any_other(pool: Pool) -> None:
    result = run(pool, SUM, ("1 2", "3"), ("5 6", "12"), language="cpp")
    assert [one.correct for one in result.results] == [True, False] and result.compile_error is None


@pytest.mark.parametrize(
    ("body", "verdict", "error"),
    [
        ("return 3;", "exception", "exited with code 3"),
        ("volatile int* p = nullptr; *p = 1;", "crashed", "ended by SIGSEGV"),
        ("std::vector<char> v(1LL << 40);", "memory", "ended by SIG"),
        ("static volatile char big[1500 << 20]; return big[argc];", "memory", "code and static data take 1,57"),
        ("for (;;) {}", "timeout", "out of CPU time"),
        ("std::string s(2'000'000, 'x'); std::cout << s;", "output_too_large", "larger than 1000000 bytes"),
        ("std::cout << fork() << execl(\"/bin/sh\", \"sh\", nullptr); return errno;", "exception", "exited with code"),
    ],
)  # fmt: skip
def test_each_ending_of_a_compiled_program_has_its_verdict(pool: Pool, body: str, verdict: str, error: str) -> None:
    headers = "".join(f"#include <{name}>\n" for name in ("cerrno", "iostream", "string", "unistd.h", "vector"))
    limits = Limits(cpu_seconds=0.3, output_bytes=1_000_000, memory_bytes=2**30)
    result = run_one(pool, f"{headers}int main(int argc, char**) {{ {body} }}\n", "", "", language="cpp", limits=limits)
    assert result.verdict == verdict and error in (result.error or ""), result


def test_a_compiled_program_has_the_stack_that_judges_give(pool: Pool) -> None:
    program = (
        "#include <cstdio>\nint deep(int n) { volatile char a[100]; a[0] = n; return n ? 1 + deep(n - 1) : a[0]; }\n"
    )
    result = run_one(pool, program + 'int main() { printf("%d", deep(500000)); }', "", "500000", language="cpp")
    assert result.correct, result


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("int main() { return x; }", "‘x’ was not declared"),
        ('#include "/etc/passwd"\nint main() {}', "/etc/passwd"),
        ("template <int N> struct A { A<N + 1> a; }; int main() { A<0> a; }", "template instantiation depth"),
    ],
)
def test_what_does_not_compile_is_told_in_the_compilers_words(pool: Pool, source: str, said: str) -> None:
    result = run(pool, source, ("", "1"), ("", "2"), language="cpp")
    assert said in (result.compile_error or "") and "root:" not in (result.compile_error or "")
    assert [(one.verdict, one.error) for one in result.results] == [("exception", "does not compile")] * 2
    assert result.correct is False


@pytest.mark.parametrize(
    "source",
    [
        "int data[100], size = 3;\nint main() { cout << size; }",
        "typedef unsigned char byte;\nint main() { byte b = 3; cout << (int)b; }",
        "int f() throw(int) { return 3; }\nint main() { cout << f(); }",
        "int main() { char s[9]; gets(s); puts(s); }",
        "#ifndef ONLINE_JUDGE\nint main() { return 1; }\n#else\nint main() { cout << 3; }\n#endif",
        "#include <ranges>\nint main() { for (int i : views::iota(3, 4)) cout << i; }",
        "#include <thread>\nint main() { thread t([] { cout << 3; }); t.join(); }",
        "int main() { char* s = (char*)mmap(0, 1, PROT_READ, MAP_SHARED, 0, 0); cout << *s; }",
    ],
)
def test_programs_of_every_age_compile_and_find_themselves_judged(strong_pool: Pool, source: str) -> None:
    headers = (
        "#include <iostream>\n#include <cstddef>\n#include <cstdio>\n#include <sys/mman.h>\nusing namespace std;\n"
    )
    result = run(strong_pool, headers + source, ("3", "3"), language="cpp")
    assert result.correct is True, (result.compile_error, result.results)


def test_a_source_cannot_choose_who_is_blamed(pool: Pool) -> None:
    result = run(pool, '#line 1 "[E][2024-01-01]"\n#error no', ("", "1"), language="cpp")
    assert result.results[0].verdict == "exception" and result.correct is False


def test_a_compiler_that_cannot_be_started_is_the_sandboxs_failure(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codeio_hpc.sandbox.jail.compiler._SYSTEM", ("/usr/include",))  # no loader, no libraries
    monkeypatch.setattr("codeio_hpc.sandbox.jail.compiler._installation", lambda compiler: [])
    result = run(pool, "int main() { return 23; }", ("", "1"), language="cpp")
    assert result.results[0].verdict == "infrastructure" and result.correct is None, result


def test_a_busy_node_is_no_compile_error(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry = replace(CPP, limits=Limits(cpu_seconds=30, wall_seconds=0.05))
    monkeypatch.setitem(LANGUAGES, "cpp", hurry)
    result = run(pool, "#include <bits/stdc++.h>\nint main() { return 29; }", ("", "1"), language="cpp")
    assert result.results[0].verdict == "infrastructure" and "out of wall time" in (result.results[0].error or "")


def test_temporary_files_may_lie_where_nobody_else_may_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    checker = Checker("int main() { return 0; }", "cpp")
    for level in LEVELS:
        with Pool(level=level) as pool:
            result = run(pool, "int main() { return 31 - 31; }", ("", "x"), language="cpp", checker=checker)
            assert result.correct is True, (result, level)
    assert not list(tmp_path.iterdir())


TESTLIB = r"""
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
inline std::string read(const char* path) { std::ifstream file(path); std::string s; file >> s; return s; }
inline void quit(int code, const char* text) { std::fprintf(stderr, "%s", text); std::exit(code); }
"""


@pytest.mark.parametrize(
    ("code", "verdict", "correct"),
    [(0, "ok", True), (1, "ok", False), (2, "ok", False), (3, "infrastructure", None), (77, "ok", False)],
)
def test_a_compiled_checker_answers_by_its_exit_code(pool: Pool, code: int, verdict: str, correct: bool | None) -> None:
    source = """
        #include "testlib.h"
        int main(int n, char** v) {
            if (n != 4 || read(v[1]) != "in" || read(v[3]) != "answer") quit(99, "wrong files");
            quit(std::atoi(read(v[2]).c_str()), "said the checker");
        }
    """
    checker = Checker(source, "cpp", {"testlib.h": TESTLIB})
    result = run_one(pool, f"print({code})", "in", "answer", checker=checker)
    assert (result.verdict, result.correct) == (verdict, correct), result
    assert "said the checker" in (result.error or "")


def test_without_a_compiler_it_is_said_what_is_missing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, *rest, **more: None)
    with pytest.raises(UserError, match=r"no g\+\+ on PATH"):
        run(pool, "int main() { return 17; }", ("", ""), language="cpp")
