"""Whatever takes longer than five seconds says how far it is."""

from __future__ import annotations

import io

import pytest

from codeio_hpc.launch import progress
from codeio_hpc.launch.progress import Tally, clock


class Clock:
    """Time that only passes when a test says so."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_tally_tells_rate_and_time_left_after_five_seconds_and_then_every_ten(time: Clock) -> None:
    stream = io.StringIO()
    tell = Tally("exporting", "shards", 4_000, stream=stream)
    for second in range(31):
        time.now = 100.0 + second
        tell(100 * second)
    assert stream.getvalue().splitlines() == [
        "exporting: 1,000 of 4,000 shards, 100/s, 0:30 left",
        "exporting: 2,000 of 4,000 shards, 100/s, 0:20 left",
        "exporting: 3,000 of 4,000 shards, 100/s, 0:10 left",
    ]


def test_what_is_quick_or_quiet_says_nothing_and_what_has_no_end_tells_its_rate(time: Clock) -> None:
    quick, quiet, endless = io.StringIO(), io.StringIO(), io.StringIO()
    tallies = [
        Tally("listing", "files", stream=quick),
        Tally("listing", "files", stream=quiet, quiet=True),
        Tally("listing", "files", stream=endless),
    ]
    time.now += 4
    tallies[0](50)
    time.now += 16
    for tell in tallies[1:]:
        tell(5_000)
    assert (quick.getvalue(), quiet.getvalue()) == ("", "")
    assert endless.getvalue() == "listing: 5,000 files, 250/s\n"


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0:00"), (42.4, "0:42"), (723, "12:03"), (11_110, "3:05:10")])
def test_times_are_written_as_people_read_them(seconds: float, text: str) -> None:
    assert clock(seconds) == text
