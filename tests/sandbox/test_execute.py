"""``codeio exec``: JSON lines in, JSON lines out."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.execute import _Worker, execute, run_lines
from codeio_hpc.sandbox.lines import LineRequest

SQUARE = "def main_solution(x): return x * x"


def answers(*rows: object, **options: object) -> tuple[int, list[dict]]:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    sink = io.StringIO()
    code = run_lines(io.StringIO(text), sink, **options)
    return code, [json.loads(line) for line in sink.getvalue().splitlines()]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_requests(workers: int) -> None:
    slow = "import time\ndef main_solution(x):\n    time.sleep(0.2 if x % 5 == 0 else 0)\n    return x"
    code, lines = answers(*({"id": n, "code": slow, "inputs": [{"x": n}]} for n in range(20)), workers=workers)
    assert code == 0
    assert [(line["id"], line["results"][0]["output"]) for line in lines] == [(n, n) for n in range(20)]
    assert {line["isolation"] for line in lines} == {"nsjail"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "not a JSON line"),
        ("[1]", "a request is a JSON object"),
        ('{"id": 1, "code": "x", "inputs": [{}], "inputs": []}', "a key appears twice"),
        ('{"id": 1, "code": "x", "inputs": [{"x": NaN}]}', "set non_finite"),
        ({"id": "b", "code": "x"}, "either inputs or a generator"),
        ({"code": "x", "inputs": []}, "no 'id'"),
        ({"id": "b", "code": 3, "inputs": []}, "code is a whole number, not a string"),
        ({"id": "b", "code": "x", "inputs": [{}], "expcted": [1]}, "did you mean 'expected'"),
        ({"id": "b", "code": "x", "inputs": [{}], "expected": []}, "as many expected outputs"),
        ({"id": "b", "code": "x", "inputs": [{}], "limits": {"cpu": 1}}, "there is no such limit"),
        ({"id": "b", "code": "x", "inputs": [{}], "limits": {"cpu_seconds": "1"}}, "a limit is a number"),
        ({"id": "b", "code": "x", "generator": {"size": 1}}, "unknown key generator."),
        ({"id": "b", "program": "x", "tests": []}, "no tests"),
        ({"id": "b", "program": "x"}, "no 'tests'"),
        ({"id": "b", "program": "x", "tests": [None]}, "tests[0] is null, not an object"),
        ({"id": "b", "program": "x", "tests": [{}], "comparator": {"rule": None}}, "comparator.rule is null"),
        ({"id": "b", "program": "x", "tests": [{}], "code": "x"}, "not both"),
        ({"id": "b", "program": "x", "tests": ["1"]}, "tests[0] is a string, not an object"),
        ({"id": "b", "program": "x", "tests": [{"stdn": "1"}]}, "did you mean 'stdin'"),
        ({"id": "b", "program": "x", "tests": [{}], "language": "cobol"}, "use one of python, cpp"),
        ({"id": "b", "program": "x", "tests": [{}], "comparator": "sets"}, "use tokens or lines"),
        ({"id": "b", "program": "x", "tests": [{}], "checker": {}}, "the checker has no 'code'"),
        ({"id": "b", "program": "x", "tests": [{}], "checker": {"code": "", "language": "java"}}, "python, cpp"),
        ({"id": "b", "program": "x", "tests": [{}], "checker": {"code": "", "files": {"a/b": ""}}}, "a plain name"),
        ({"id": "b", "program": "x", "tests": [{}], "limits": {"cpu_seconds": 3000000}}, "it must lie between"),
        ({"id": "b", "program": "x", "tests": [{}], "limits": {"output_bytes": 2**45}}, "it must lie between"),
        ({"id": "b", "program": "x", "tests": [{}], "inputs": []}, "unknown key 'inputs'"),
        ({"id": "b", "code": "x", "inputs": [{}], "trace": {"lines": 1}}, "unknown key trace."),
    ],
)
def test_a_malformed_line_is_answered_and_disturbs_nothing_else(line: object, reason: str) -> None:
    good = {"id": "good", "code": SQUARE, "inputs": [{"x": 3}]}
    code, lines = answers(good, line, "", good)
    assert code == 2
    assert [one["results"][0]["verdict"] for one in lines] == ["ok", "infrastructure", "ok"]
    assert "line 2: " in lines[1]["results"][0]["error"] and reason in lines[1]["results"][0]["error"]
    assert lines[1]["isolation"] is None and lines[2]["results"][0]["output"] == 9


def test_programs_and_functions_may_come_mixed() -> None:
    program = {"id": 2, "program": "print(int(input()) ** 2)", "tests": [{"stdin": "3", "stdout": "9"}, {"stdin": "x"}]}
    code, (first, second) = answers({"id": 1, "code": SQUARE, "inputs": [{"x": 3}]}, program)
    assert code == 0 and first["results"][0]["output"] == 9
    assert (second["id"], second["correct"], second["judge"], second["isolation"]) == (2, None, "tokens/1", "nsjail")
    right, wrong = second["results"]
    assert (right["verdict"], right["stdout"], right["correct"], right["exit_code"]) == ("ok", "9\n", True, 0)
    assert wrong["verdict"] == "exception" and "correct" not in wrong and wrong["stderr"].startswith("Traceback")


def test_limits_of_the_command_hold_for_programs_too_and_each_kind_keeps_its_other_defaults() -> None:
    spin = {"id": 1, "program": "while True: pass", "tests": [{}]}
    started = time.monotonic()
    _, (line,) = answers(spin, limits={"cpu_seconds": 0.2})
    assert line["results"][0]["verdict"] == "timeout" and time.monotonic() - started < 5


def test_steps_are_shown_where_they_are_asked_for() -> None:
    (function, program) = answers(
        {"id": 1, "code": SQUARE, "inputs": [{"x": 3}], "trace": True},
        {"id": 2, "program": "print(1)", "tests": [{}], "trace": {"events": 1}},
    )[1]
    assert function["results"][0]["trace"][0]["changed"] == {"x": "3"} and function["results"][0]["trace_complete"]
    assert len(program["results"][0]["trace"]) == 1 and not program["results"][0]["trace_complete"]


def test_a_checker_and_its_files_come_with_the_line() -> None:
    checker = {
        "code": "def check(stdin, stdout, expected): return int(stdout) > int(stdin)",
        "limits": {"cpu_seconds": 1},
    }
    row = {"id": 1, "program": "print(int(input()) + 5)", "tests": [{"stdin": "1"}], "checker": checker}
    assert answers(row)[1][0]["correct"] is True


def test_a_missing_compiler_costs_its_own_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    good = {"id": "good", "code": SQUARE, "inputs": [{"x": 3}]}
    code, lines = answers(good, {"id": "c", "program": "int main() {}", "tests": [{}], "language": "cpp"}, good)
    assert code == 2 and [one["results"][0]["verdict"] for one in lines] == ["ok", "infrastructure", "ok"]
    assert "no g++ on PATH" in lines[1]["results"][0]["error"] and lines[1]["id"] == "c"


def test_what_may_take_longest_is_begun_first(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    run = _Worker.run

    def noted(self: _Worker, request: LineRequest) -> object:
        begun.append(request.identifier)
        if len(begun) == 1:
            time.sleep(0.3)  # until all lines have been read
        return run(self, request)

    monkeypatch.setattr(_Worker, "run", noted)
    rows = [{"id": n, "code": SQUARE, "inputs": [{"x": 1}] * n} for n in (1, 2, 5, 3, 4)]
    assert [line["id"] for line in answers(*rows)[1]] == [1, 2, 5, 3, 4]
    assert begun[1:] == [5, 4, 3, 2] or begun == [5, 4, 3, 2, 1]


def test_requests_are_not_overwritten_by_their_results(tmp_path: Path) -> None:
    requests, link = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    requests.write_text("{}\n", encoding="utf-8")
    link.symlink_to(requests)
    for sink in (requests, link):
        with pytest.raises(UserError, match="both"):
            execute(str(requests), str(sink), 1, [], "nsjail")
    assert requests.read_text(encoding="utf-8") == "{}\n"


def test_what_was_not_run_is_also_said_to_whoever_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert answers("{broken", "[1]")[0] == 2
    assert capsys.readouterr().err.startswith("codeio exec: 2 lines were not run; the first: line 1: not a JSON line")


def test_expected_outputs_are_compared() -> None:
    row = {"id": 1, "code": SQUARE, "inputs": [{"x": 3}, {"x": 4}], "expected": [9, 9.0]}
    (line,) = answers(row)[1]
    assert [one["correct"] for one in line["results"]] == [True, False]
    assert "input" not in line["results"][0]


def test_generated_inputs_are_shown() -> None:
    code = SQUARE + "\nimport random\ndef input_generator(): return {'x': random.randint(0, 99)}"
    (line,) = answers({"id": 1, "code": code, "generator": {"count": 5, "seed": 3}})[1]
    assert len(line["results"]) == 5 and line["generator"]["verdict"] == "ok"
    assert all(one["output"] == one["input"]["x"] ** 2 for one in line["results"])


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("return x", "ok"),
        ("return list({'a', 'b', 'c', 'd', 'e', 'f'})", "nondeterministic"),
        ("import random; return random.random()", "nondeterministic"),
        ("import time; return time.time()", "nondeterministic"),
        ("import uuid; return str(uuid.uuid4())", "nondeterministic"),
        ("return id(object())", "nondeterministic"),
        ("raise ValueError", "exception"),
    ],
)
def test_what_does_not_reproduce_is_nondeterministic(body: str, verdict: str) -> None:
    code = f"def main_solution(x):\n    {body}"
    (line,) = answers({"id": 1, "code": code, "inputs": [{"x": 1}], "expected": [1], "check_determinism": True})[1]
    (result,) = line["results"]
    assert result["verdict"] == verdict and result["correct"] == (verdict == "ok")
    assert ("output" in result) == (verdict == "ok")


def test_infinities_pass_only_if_asked_for() -> None:
    row = '{"id": 1, "code": "def main_solution(x): return [x, -x]", "inputs": [{"x": Infinity}], "non_finite": true}'
    (line,) = answers(row)[1]
    assert line["results"][0]["output"] == [float("inf"), float("-inf")]


def test_long_inputs_are_not_read_ahead() -> None:
    read = 0

    class Source(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            nonlocal read
            read += 1
            return super().readline(size)

    ahead = []

    class Sink(io.StringIO):
        def write(self, text: str, /) -> int:
            ahead.append(read)
            return super().write(text)

    row = json.dumps({"id": 1, "code": SQUARE, "inputs": [{"x": 3}]}) + "\n"
    assert run_lines(Source(row * 50), Sink()) == 0
    assert ahead[0] < 10 and len(ahead) == 50


def test_files_are_opened_by_name(tmp_path: Path) -> None:
    source, sink = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"id": "a", "code": SQUARE, "inputs": [{"x": 3}]}) + "\n")
    assert execute(str(source), str(sink), 1, ["cpu_seconds=1"], "nsjail") == 0
    assert json.loads(sink.read_text())["results"][0]["output"] == 9


@pytest.mark.parametrize(
    ("source", "sink", "workers", "limits", "isolation"),
    [
        ("/nonexistent", "-", 1, [], "nsjail"),
        ("/dev/null", "/nonexistent/x", 1, [], "nsjail"),
        ("/dev/null", "-", 0, [], "nsjail"),
        ("/dev/null", "-", 1, ["x=1"], "nsjail"),
        ("/dev/null", "-", 1, [], "chroot"),
    ],
)
def test_a_mistake_of_the_user_is_explained(
    source: str, sink: str, workers: int, limits: list[str], isolation: str
) -> None:
    with pytest.raises(UserError):
        execute(source, sink, workers, limits, isolation)
