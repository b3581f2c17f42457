"""A run that SLURM is at work on, and a host without SLURM."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from codeio_hpc.launch import slurm
from codeio_hpc.launch.commands import read_config
from codeio_hpc.launch.rounds import ArrayRecord, RoundRecord
from codeio_hpc.launch.run import Run, create_or_open_run


@pytest.fixture
def sent_out(tmp_path: Path) -> Run:
    """Two shards; an array of two tasks, job 10, is sent out to do the first step of them."""
    (tmp_path / "src").mkdir()
    for name in ("a", "b"):
        (tmp_path / "src" / f"{name}.py").write_text(f"def {name}(x: int) -> int:\n    return x\n", encoding="utf-8")
    config = {
        "name": "two",
        "sources": [{"name": "here", "path": str(tmp_path / "src"), "licence": "x"}],
        "collect": {"files_per_shard": 1, "near_duplicates": None, "min_bytes": 1},
        "split": {"near_duplicates": None},
        "teacher": {"kind": "tracer"},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run = create_or_open_run(tmp_path / "run", read_config(tmp_path / "c.yaml", []))
    RoundRecord(0, 0, "collect-sketch", "here", 2, [[0], [1]], 1.0, arrays=[ArrayRecord("10", 0, 2)]).save(run)
    return run


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without SLURM's commands."""

    def missing(*command: str, timeout: float = 0) -> str:
        raise slurm.NoClusterError(f"{command[0]} is not installed here")

    monkeypatch.setattr(slurm, "ask", missing)
    monkeypatch.chdir(tmp_path)
    for name in ("CODEIO_SITE", "CODEIO_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
