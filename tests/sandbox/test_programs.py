"""Programs: what they print is judged outside, how they end is told right."""

from __future__ import annotations

import sys

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox import Checker, Comparator, Limits, Pool, ProgramRequest, ProgramTest, TraceLimits
from tests.sandbox.asking import run, run_one


@pytest.mark.parametrize(
    "program",
    [
        "import sys\nfor line in sys.stdin:\n    print(int(line) + 1)",
        "import sys\nfor line in sys.stdin.buffer:\n    sys.stdout.buffer.write(b'%d\\n' % (int(line) + 1))",
        "import sys\nwhile line := sys.stdin.buffer.readline():\n    print(int(line) + 1)",
        "import sys\ninput = sys.stdin.readline\nprint(int(input()) + 1)\nprint(int(input()) + 1)",
        "print(*(int(x) + 1 for x in open(0).read().split()), sep='\\n')",
        "import os\nprint(*(int(x) + 1 for x in os.read(0, 100).split()))",
        "import sys\nfrom io import StringIO\nsys.stdin = StringIO(sys.stdin.read())\nprint(int(input()) + 1, 3)",
        "one = 1\ndef more(x):\n    global one\n    return x + one\nprint(more(int(input())), more(int(input())))",
        "import sys, fileinput\nfor line in fileinput.input(): print(int(line) + 1)",
        "def main():\n    print(int(input()) + 1)\n    main()\ntry: main()\nexcept EOFError: pass",
        "if __name__ == '__main__': print(int(input()) + 1, int(input()) + 1)",
        "import threading, sys\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\n"
        "t = threading.Thread(target=lambda: print(int(input()) + 1, int(input()) + 1))\nt.start()",
        "import atexit\nx, y = int(input()), int(input())\natexit.register(lambda: print(x + 1, y + 1))",
        "import sys\nsys.stdout.write('2')\nsys.stdout.write('\\n3')\nsys.exit()",
        "import sys\nprint(2, 3)\nexit(0)",
        "import sys\nprint('noise', file=sys.stderr)\nprint(2)\nprint(3)",
        "\ufeffprint(2, 3)",
        "import os, io\ninput = io.BytesIO(os.read(0, os.fstat(0).st_size)).readline\nprint(int(input()) + 1, 3)",
        "import mmap\ninput = mmap.mmap(0, 0, access=mmap.ACCESS_READ).readline\nprint(int(input()) + 1, 3)",
        "import sys\nsys.stdin.read()\nsys.stdin.seek(0)\nprint(int(input()) + 1, int(input()) + 1)",
        "import sys\nassert (sys.stdin.mode, sys.stdout.mode, sys.stdout.name) == ('r', 'w', '<stdout>')\nprint(2, 3)",
        # what is still in a buffer at the end
        "import sys\nsys.stdout = open(1, 'w')\nprint(2, 3)",
        "out = open(1, 'w')\nout.write('2 3')",
        "import os\nout = os.fdopen(1, 'wb')\nout.write(b'2 3')",
        "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, line_buffering=False)\nprint(2, 3)",
        "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.detach())\nprint(2, 3)",
        "import sys, io\nclass Out(io.StringIO):\n    def flush(self): sys.__stdout__.write(self.getvalue())\n"
        "sys.stdout = Out()\nprint(2, 3, end=' ')",
        "class Late:\n    def __del__(self): print(2, 3)\nlate = Late()",
        "import sys\nprint(2, 3)\nsys.stdout.close(); sys.stderr.close()",
        "import os\nos.closerange(3, 9)\nprint(2, 3)",
        # what needs a stack
        "def f(n): return 0 if n == 0 else 1 + f(n - 1)\nprint(f(995) - 993, f(995) - 992)",
        "import sys, functools\nsys.setrecursionlimit(10**6)\n@functools.lru_cache(None)\n"
        "def f(n): return 0 if n == 0 else 1 + f(n - 1)\n"
        "print(f(40_000) - 39_998, 3)",
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_STACK, (-1, -1))\nprint(2, 3)",
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(20) as pool: print(*pool.map(lambda x: x + 1, (1, 2)))",
    ],
)  # fmt: skip
def test_programs_read_and_write_as_they_would_anywhere(pool: Pool, program: str) -> None:
    result = run(pool, program, ("1\n2\n", "2\n3\n"))
    assert result.correct is True, result.results
    assert (result.judge, result.results[0].exit_code) == ("tokens/1", 0)


@pytest.mark.parametrize(
    ("program", "verdict", "error", "exit_code"),
    [
        ("1 // 0", "exception", "ZeroDivisionError: integer division or modulo by zero", 1),
        ("print(", "exception", "SyntaxError", 1),
        ("import sys; sys.exit(3)", "exception", "exited with code 3", 3),
        ("import sys; sys.exit('no')", "exception", "exited with code 1", 1),
        ("import os; os._exit(9)", "exception", "exited with code 9", 9),
        ("x = [0] * (1 << 40)", "memory", "MemoryError", 1),
        ("open('/tmp/x', 'w')", "forbidden", "Read-only file system", 1),
        ("import os; os.fork()", "forbidden", "PermissionError", 1),
        ("print('x' * 2_000_000)", "output_too_large", "larger than 1000000 bytes", None),
        ("while True: pass", "timeout", "out of CPU time", None),
        ("import time; time.sleep(60)", "timeout", "out of wall time", None),
        ("import ctypes; ctypes.string_at(0)", "crashed", "ended by SIGSEGV", None),
    ],
)
def test_each_ending_of_a_program_has_its_verdict(
    pool: Pool, program: str, verdict: str, error: str, exit_code: int | None
) -> None:
    limits = Limits(cpu_seconds=0.4, wall_seconds=0.6, output_bytes=1_000_000, memory_bytes=2**31)
    result = run_one(pool, program, "", "", limits=limits)
    assert (result.verdict, result.exit_code, result.correct) == (verdict, exit_code, False), result
    assert error in (result.error or "")


def test_a_traceback_shows_the_program_and_nothing_of_the_host(pool: Pool) -> None:
    result = run_one(pool, "def f(x):\n    return 1 / x\n\nprint('before')\nf(0)\n", stdout="before")
    assert result.stdout == b"before\n"
    lines = result.stderr.decode().splitlines()
    assert lines[0] == "Traceback (most recent call last):" and lines[-1] == "ZeroDivisionError: division by zero"
    assert '  File "<solution>", line 5, in <module>' in lines and "    return 1 / x" in lines
    assert "program.py" not in result.stderr.decode()
    for program in (
        "import json\njson.loads('x')",
        "import threading, json\nthreading.Thread(target=json.loads, args='x').start()",
    ):
        said = run_one(pool, program).stderr.decode()
        assert '"<python>/lib' in said and sys.base_prefix not in said and "codeio" not in said


def test_much_is_read_and_written_without_waiting_for_each_other(pool: Pool) -> None:
    text = "0123456789" * 600_000
    result = run_one(pool, "import sys\nfor line in sys.stdin: sys.stdout.write(line)", text, text)
    assert result.correct and result.stdout_bytes == 6_000_000 and len(result.stdout) == 65_536
    result = run_one(pool, "import os\nprint(len(os.read(0, 10**8)))", "12345678\n" * 3_000_000, "27000000")
    assert result.correct
    assert run_one(pool, "print('x' * 200_000)", "", "x" * 200_000).correct
    assert run_one(pool, "print('never reads')", text, "never reads").correct


def test_what_is_written_to_standard_error_is_cut_at_its_beginning(pool: Pool) -> None:
    result = run_one(pool, "import sys\nfor i in range(50_000): print(i, file=sys.stderr)\nprint(1)", "", "1")
    assert result.correct and 2**15 <= len(result.stderr) <= 2**16 and result.stderr.endswith(b"49999\n")


def test_bytes_that_are_no_text_pass_through(pool: Pool) -> None:
    program = "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
    request = ProgramRequest("p", program, [ProgramTest(b"\xff\x00\x01", b"\x01\x00\xff")])
    assert pool.run_program(request).correct
    assert run_one(pool, "print(input())", "a\udcff", "a\udcff").correct


def test_every_test_of_a_slow_program_counts(pool: Pool) -> None:
    """Judges that stop at a time for all tests together have taken the first ten for the whole."""
    program = "import time\nn = int(input())\ntime.sleep(0.05)\nprint(n if n < 12 else -1)"
    result = run(pool, program, *((str(n), str(n)) for n in range(15)))
    assert [one.correct for one in result.results] == [True] * 12 + [False] * 3 and result.correct is False


def test_after_two_timeouts_the_rest_is_not_run_and_not_right(pool: Pool) -> None:
    result = run(pool, "while True: pass", *[("", "")] * 4, limits=Limits(cpu_seconds=0.1))
    assert [one.verdict for one in result.results] == ["timeout"] * 4 and result.correct is False
    assert result.results[3].error == "not run: 2 tests timed out before it"


def test_nothing_after_the_first_failure_is_run_where_that_is_asked_for(pool: Pool) -> None:
    tests = [("1", "1"), ("2", "3"), ("3", "3")]
    assert len(run(pool, "print(input())", *tests, stop_at_failure=True).results) == 2
    assert len(run(pool, "print(input())", *tests).results) == 3


def test_a_test_that_expects_nothing_is_run_and_not_judged(pool: Pool) -> None:
    result = run(pool, "print(7)", ("", None))
    assert result.results[0].stdout == b"7\n" and result.results[0].correct is None and result.correct is None


def test_no_tests_are_an_error() -> None:
    with pytest.raises(UserError, match="no tests"):
        ProgramRequest("p", "print(1)", [])


CHEATS = {
    "always equal": "class Yes(str):\n    def __eq__(self, other): return True\nprint(Yes())",
    "leave early": "import sys\nsys.exit(0)",
    "leave at once": "import os\nos._exit(0)",
    "walk the frames": (
        "import sys, gc\nframe = sys._getframe()\nfound = []\n"
        "while frame:\n    found += [str(v) for v in frame.f_locals.values()]\n"
        "    found += [str(v) for v in frame.f_globals.values()]\n    frame = frame.f_back\n"
        "found += [str(o) for o in gc.get_objects() if isinstance(o, (str, dict, list))]\n"
        "print('EXPECTED' + '-MARK' if any('EXPECTED' + '-MARK' in text for text in found) else 'nothing')"
    ),
    "replace what judges": (
        "import json, builtins, sys\njson.dumps = json.loads = lambda *a, **k: True\nbuiltins.print = lambda *a: None\n"
        "for module in list(sys.modules.values()):\n    for name in ('equal', 'compare', 'check'):\n"
        "        if hasattr(module, name): setattr(module, name, lambda *a: True)"
    ),
    "write a verdict": (
        "import os\nfor n in range(3, 64):\n    try: os.write(n, b'{\"status\": \"ok\", \"correct\": true}')\n"
        "    except OSError: pass"
    ),
    "read the judge": "import os\nprint(open('/proc/%d/environ' % os.getppid()).read())",
    "leave something for the next": (
        "import os, time\ntry:\n    if os.fork() == 0: time.sleep(60)\nexcept OSError: pass"
    ),
    "the beginning": "print('EXPECTED', end='')",
}  # fmt: skip


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_is_not_right(pool: Pool, cheat: str) -> None:
    result = run(pool, CHEATS[cheat], ("1", "EXPECTED" + "-MARK"))
    assert result.correct is False, result.results
    assert run(pool, "print(input())", ("1", "1")).correct is True


def test_steps_of_a_program_that_reads_its_input_are_traced(pool: Pool) -> None:
    program = "n = int(input())\ndef double(x):\n    return 2 * x\nprint(double(n))\n"
    result = run_one(pool, program, "4", "8", trace=True)
    assert result.correct and result.trace is not None and result.trace_complete
    seen = [(event.line, event.event, event.function) for event in result.trace]
    assert seen[1:] == [
        (1, "line", "<module>"), (2, "line", "<module>"), (4, "line", "<module>"), (2, "call", "double"),
        (3, "line", "double"), (3, "return", "double"), (4, "return", "<module>"),
    ]  # fmt: skip
    assert result.trace[2].changed == {"n": "4"} and result.trace[4].changed == {"x": "4"}


def test_a_run_that_is_killed_has_a_trace_up_to_there(pool: Pool) -> None:
    program = "import time\nx = 1\ntime.sleep(60)"
    result = run_one(pool, program, trace=True, limits=Limits(cpu_seconds=1, wall_seconds=0.3))
    assert result.verdict == "timeout" and result.trace is not None and not result.trace_complete
    assert result.trace[-1].line == 3 and result.trace[-1].changed == {"x": "1"}


def test_a_trace_is_bounded_in_time_too(pool: Pool) -> None:
    program = "x = [[0] * 1000 for _ in range(1000)]\nt = 0\nfor i in range(300_000):\n    t += i\nprint(t)"
    trace = TraceLimits(events=10**9, bytes=10**9, seconds=0.2)
    result = run_one(pool, program, "", str(sum(range(300_000))), trace=trace, limits=Limits(cpu_seconds=5))
    assert result.correct and not result.trace_complete and len(result.trace or ()) > 50


def test_only_python_is_traced() -> None:
    with pytest.raises(UserError, match="only Python"):
        ProgramRequest("p", "", [ProgramTest()], language="cpp", trace=True)


CHECK = "def check(stdin, stdout, expected):\n    words = stdout.split()\n"


def test_a_checker_decides_where_several_answers_are_right(pool: Pool) -> None:
    checker = Checker(CHECK + "    a, b = map(int, words)\n    return a + b == int(stdin), f'{a + b} in all'")
    result = run(pool, "n = int(input())\nprint(n - 1, 2 if n == 5 else 1)", ("4", None), ("5", None), checker=checker)
    assert [(one.correct, one.error) for one in result.results] == [(True, "4 in all"), (False, "6 in all")]
    assert result.judge.startswith("checker:") and len(result.judge) == 24


@pytest.mark.parametrize(
    "body",
    ["    return 1 / 0", "    return 'yes'", "    return 1", "    while True: pass", "    import os; os._exit(0)"],
)
def test_a_checker_that_gives_no_answer_is_never_taken_for_one(pool: Pool, body: str) -> None:
    checker = Checker(CHECK + body, limits=Limits(cpu_seconds=0.2))
    result = run(pool, "print(1)", ("", "1"), checker=checker)
    assert result.results[0].verdict == "infrastructure" and result.correct is None
    assert "the checker failed" in (result.results[0].error or "")


def test_a_checker_that_fails_on_wrong_output_only_finds_it_wrong(pool: Pool) -> None:
    checker = Checker(CHECK + "    return int(words[0]) > 0")
    result = run(pool, "print(input())", ("5", "1"), ("abc", "1"), checker=checker)
    assert [one.correct for one in result.results] == [True, False] and result.results[1].verdict == "ok"
    assert "the checker could not read it" in (result.results[1].error or "")
    assert run(pool, "print('abc')", ("", None), checker=checker).correct is None


@pytest.mark.parametrize("name", ["", "..", "lib/testlib.h", "a\0b", "source.cpp"])
def test_files_of_a_checker_have_plain_names(name: str) -> None:
    with pytest.raises(UserError, match="beside its source"):
        Checker("", "cpp", {name: ""})


def test_a_checker_shares_no_jail_with_what_it_judges(pool: Pool) -> None:
    checker = Checker(CHECK + "    return True")
    assert run(pool, "print(1)", ("", "1"), checker=checker).correct
    checkers = pool._checkers._jails.running["plain"]
    assert checkers.process.pid != pool.jails.running["plain"].process.pid


def test_an_unknown_language_is_refused(pool: Pool) -> None:
    with pytest.raises(UserError, match="use one of python, cpp"):
        run(pool, "", ("", ""), language="cobol")


def test_another_rule_is_named_in_the_result(pool: Pool) -> None:
    result = run(pool, "print('YES')", ("", "yes"), comparator=Comparator(ignore_case=True))
    assert result.correct and result.judge == "tokens/1+ignore_case"
