"""Creating a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from codeio_hpc.config.run import CollectSettings, RunConfig, Source
from codeio_hpc.launch.run import SOURCES_STAGE, create_or_open_run
from codeio_hpc.stages.collect import list_sources
from codeio_hpc.tables import Row
from codeio_hpc.tables.shards import part_path, read_shard


class Killed(BaseException):
    """The process is gone."""


def test_a_creation_that_was_killed_goes_on_behind_what_it_had_listed(tmp_path: Path) -> None:
    """A long list may take more time than a job has: each start gets further."""
    (tmp_path / "in").mkdir()
    for number in range(6):
        (tmp_path / "in" / f"f{number}.py").write_text(f"print({number})\n", encoding="utf-8")
    source = Source(name="here", path=str(tmp_path / "in"), licence="x")
    config = RunConfig(name="test", sources=(source,), collect=CollectSettings(files_per_shard=1))

    def killed() -> Iterator[Row]:
        for number, row in enumerate(list_sources(config)):
            if number == 4:
                raise Killed
            yield row

    listed = [part_path(tmp_path / "run" / "stages" / SOURCES_STAGE, shard) for shard in range(6)]
    with pytest.raises(Killed):
        create_or_open_run(tmp_path / "run", config, killed())
    before = [path.stat().st_ino for path in listed[:4]]
    (tmp_path / "in" / "f2.py").unlink()  # what was third is another file now
    create_or_open_run(tmp_path / "run", config)
    assert [path.stat().st_ino for path in listed[:2]] == before[:2]
    assert [read_shard(path)[0]["path"] for path in listed[:5]] == ["f0.py", "f1.py", "f3.py", "f4.py", "f5.py"]
