"""The node test itself. Nodes are pretended, by the name that SLURM gives them; ranks, sockets and figures are real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from codeio_hpc.launch.notice import MISCONFIGURED, PASSING
from codeio_hpc.train.local import run_verb
from codeio_hpc.train.preflight import links, measure, run
from codeio_hpc.train.preflight.meeting import Meeting, NoAnswerError, within
from codeio_hpc.train.preflight.run import Options
from codeio_hpc.train.world import World, free_port

TINY = measure.Sizes(gemm=64, products=1, copied=2**16, written=2**12, exact=64)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measure.SIZES, "cpu", TINY)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The exit codes that this process, as one of several ranks, would have ended with."""
    codes: list[int] = []
    monkeypatch.setattr(run, "_leave", codes.append)
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "FATAL")
    yield codes


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, size: int, node: str, **more: str) -> None:
    ours = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    for name, value in {**ours, "SLURMD_NODENAME": node, **more}.items():
        monkeypatch.setenv(name, str(value))


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any], Path]:
    """Two ranks on each of two nodes, one of which is rehearsed to be slow: exit code, JSON, and the folder."""
    folder = tmp_path_factory.mktemp("nodes")
    common = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "4",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "CODEIO_NODES": "n1,n2",
        "CODEIO_PREFLIGHT_FAULT": "n2:gemm=0.01",
    }
    words = ["preflight", str(folder), "--floor=0.3", "--json", f"--bad-nodes={folder}/bad"]
    ranks = []
    for rank in range(4):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank % 2), "SLURMD_NODENAME": f"n{1 + rank // 2}"}
        command = [sys.executable, "-m", "codeio_hpc", *words]
        ranks.append(subprocess.Popen(command, env=common | own, stdout=subprocess.PIPE, text=True))
    outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert not any(outputs[1:]), "only rank 0 speaks"
    assert len({rank.returncode for rank in ranks}) == 1, "all ranks end with the verdict's code"
    return ranks[0].returncode, json.loads(outputs[0]), folder


def test_a_slow_node_is_named_and_offered_for_exclusion(two_nodes: tuple[int, dict[str, Any], Path]) -> None:
    code, found, folder = two_nodes
    assert code == PASSING
    assert (found["state"], found["exclude"], found["unusable"]) == ("bad nodes", ["n2"], [])
    [finding] = [each for each in found["findings"] if each["what"] == "gemm"]
    assert finding["node"] == "n2" and "of the median" in finding["text"]
    assert (folder / "bad").read_text(encoding="utf-8") == "n2\n\n"


def test_everything_is_measured_on_every_node(two_nodes: tuple[int, dict[str, Any], Path]) -> None:
    _, found, folder = two_nodes
    for node in ("n1", "n2"):
        assert set(found["nodes"][node]) == {"gemm", "copy", "write", "node_reduce", "link"}
        assert all(value > 0 for value in found["nodes"][node].values())
    assert found["all_reduce"] > 0
    assert [each["links"].keys() for each in found["ranks_together"]] == [{"n2"}, {"n2"}, {"n1"}, {"n1"}]
    assert all(each["skew"] < 1 for each in found["ranks_alone"])
    assert [path.name for path in folder.iterdir()] == ["bad"], "what was written to measure the disk is gone"


def test_local_ranks_are_started_for_any_verb_and_their_exit_code_is_the_verb_s(tmp_path: Path) -> None:
    assert run_verb(["--version"], 2) == 0
    assert run_verb(["preflight", str(tmp_path), "--floor=80"], 2) == MISCONFIGURED


def test_a_node_that_does_not_arrive_is_named_instead_of_waited_for(
    tiny: None, left: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_rank(monkeypatch, 0, 3, "n1", CODEIO_NODES="n1,n2,n3", CODEIO_PREFLIGHT_FAULT="n2:absent,n3:absent")
    run.preflight(Options(tmp_path, patience=4, bad_nodes=tmp_path / "bad"))
    said = capsys.readouterr().out
    assert left == [PASSING]
    assert "n2: 1 of its 1 rank did not arrive in 4 s\nn3: 1 of its 1 rank did not arrive in 4 s\n" in said
    assert "do without: --exclude=n2,n3" in said and "  n1  " in said, "who is there was tested all the same"
    assert (tmp_path / "bad").read_text(encoding="utf-8") == "n2,n3\nn2,n3\n"


def test_without_rank_0_the_others_name_its_node(
    left: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_rank(monkeypatch, 1, 2, "n2")
    bad = tmp_path / "bad"
    run.preflight(Options(tmp_path, patience=0.5, bad_nodes=bad))
    assert left == [PASSING]
    assert "rank 1 on n2: rank 0 on 127.0.0.1 cannot be reached" in capsys.readouterr().err
    assert bad.read_text(encoding="utf-8") == "127.0.0.1\n127.0.0.1\n"
    bad.write_text("n9\n\n", encoding="utf-8")
    run.preflight(Options(tmp_path, patience=0.5, bad_nodes=bad))
    assert bad.read_text(encoding="utf-8") == "n9\n\n", "rank 0, where it is there, knew better"


def test_a_measurement_that_never_ends_is_a_finding(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "copy", lambda device, sizes: time.sleep(60))
    assert run.preflight(Options(tmp_path, ranks=1, patience=0.8)) == PASSING
    assert "copy of rank 0 did not end in 1 s" in capsys.readouterr().out


def test_a_folder_that_one_node_cannot_write_to_is_a_finding_of_that_node(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(folder: Path, sizes: object) -> float:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(measure, "write", full)
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    assert run.preflight(Options(tmp_path, ranks=1)) == PASSING
    assert "n1: write of rank 0: [Errno 28] No space left on device\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(Path("nowhere")), "nowhere: no such folder"),
        (Options(Path(), ranks=0), "--ranks 0"),
        (Options(Path(), floor=80), "--floor 80"),
    ],
)
def test_a_wrong_setting_is_no_node_s_fault(options: Options, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.preflight(options) == MISCONFIGURED
    assert says in capsys.readouterr().err


# -- what a device computes --------------------------------------------------------------------------------------------


def test_the_known_product_is_exact_in_either_precision() -> None:
    import torch

    for kind, sizes in measure.SIZES.items():
        chance = torch.Generator().manual_seed(1)
        left, right = (torch.randint(-1, 2, (sizes.exact, sizes.exact), generator=chance) for _ in range(2))
        product = left.float() @ right.float()
        assert product.abs().max() < 256, "bf16 holds whole numbers up to there"
        assert torch.equal(product, product.bfloat16().float()), kind
    measure.check_exact_product(torch.device("cpu"), TINY)


def test_a_device_that_computes_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    device, product = torch.device("cpu"), torch.mm
    calls = iter(range(10_000))

    def flaky(left: Any, right: Any, out: Any) -> None:
        product(left, right, out=out)
        out[3, 5] += (next(calls) == measure.REPETITIONS + 6) * 1e-3  # once, after it has been warm for a while

    monkeypatch.setattr(torch, "mm", flaky)
    with pytest.raises(measure.WrongResultError, match="other bits"):
        measure.gemm(device, TINY)
    times = torch.Tensor.__matmul__

    def wrong(left: Any, right: Any) -> Any:
        result = times(left, right)
        if result.dtype == torch.float32:
            result[0, 0] += 1
        return result

    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong)
    with pytest.raises(measure.WrongResultError, match="1 of 4096 elements"):
        measure.check_exact_product(device, TINY)


def test_more_work_in_the_same_time_is_a_higher_rate() -> None:
    import torch

    device = torch.device("cpu")
    slow = measure.rate(lambda: time.sleep(0.02), 1.0, device)
    assert 20 < slow <= 50
    assert measure.rate(lambda: time.sleep(0.02), 10.0, device) > 5 * slow


# -- the meeting -------------------------------------------------------------------------------------------------------


def meet(count: int, seconds: float = 5) -> list[Meeting]:
    world = World(0, count, 0, "127.0.0.1", free_port())
    return [Meeting(replace(world, rank=rank), seconds) for rank in range(count)]


def test_rank_0_collects_what_came_and_leaves_out_what_did_not() -> None:
    host, guest, _ = meet(3)
    host.report("here", "n1")
    guest.report("here", "n2")
    assert host.collect("here", range(3), 0.3) == {0: "n1", 1: "n2"}
    host.announce("begin", {"go": True})
    assert guest.hear("begin", 1) == {"go": True}
    with pytest.raises(NoAnswerError, match=r"rank 0 on 127\.0\.0\.1 is silent"):
        guest.hear("verdict", 0.1)


@pytest.mark.parametrize("off", [100, -100])
def test_clocks_are_compared_within_the_time_of_the_answer(off: float, monkeypatch: pytest.MonkeyPatch) -> None:
    host, guest = meet(2)
    Thread(target=host.serve_clock, args=([1],), daemon=True).start()
    assert guest.skew() == 0
    host, guest = meet(2)
    real = time.time
    Thread(target=host.serve_clock, args=([1],), daemon=True).start()
    monkeypatch.setattr("codeio_hpc.train.preflight.meeting.time.time", _wrong_for_one(real, off))
    assert 99 < guest.skew() < 101


def _wrong_for_one(real: Any, off: float) -> Any:
    """A clock that is off in this thread, and right in others."""
    from threading import get_ident

    here = get_ident()
    return lambda: real() + (off if get_ident() == here else 0)


def test_work_that_takes_too_long_is_left_behind() -> None:
    assert within(5, lambda: 3) == 3
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        within(0.1, lambda: time.sleep(30))
    assert time.monotonic() - start < 10
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


def test_the_steps_are_those_that_are_told() -> None:
    """Who is to blame goes by their order."""
    source = Path(links.__file__).read_text(encoding="utf-8")
    assert [line.split('"')[1] for line in source.splitlines() if line.strip().startswith('begin("')] == [*links.STEPS]
