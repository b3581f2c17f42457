"""Going on from the newest checkpoint that is whole."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codeio_hpc.errors import UserError
from codeio_hpc.tables.files import changed_files
from codeio_hpc.train.checkpoints.files import Complete, check_identity, not_whole, published
from codeio_hpc.train.meeting import Ranks


def find(folder: Path, identity: str, settings: Mapping[str, Any], ranks: Ranks) -> tuple[Path, Complete] | None:
    """The newest whole checkpoint, its content checked; None if none was ever published. All ranks call this.

    Damaged ones are passed over, and said so: training from an older one gives the same result, only later.

    Raises:
        UserError: it is of other settings or data; or there are checkpoints, but none is whole.
    """
    candidates, passed_over = ranks.gather((published(folder), not_whole(folder)))[0]
    _tell(ranks.rank, passed_over)
    for path, complete in reversed(candidates):
        check_identity(path, complete, identity, settings)
        damaged = changed(path, complete.files, ranks)
        if not damaged:
            return path, complete
        passed_over.append((path, f"the content of {', '.join(damaged)} has changed"))
        _tell(ranks.rank, passed_over[-1:])
    if passed_over:
        raise UserError(
            f"{folder}: no checkpoint is whole any more ({', '.join(path.name for path, _ in passed_over)})",
            "there is nothing to go on from, and starting afresh would discard what was trained",
            "restore one of them, or remove the folder to start this stage afresh",
        )
    return None


def changed(folder: Path, files: Mapping[str, Mapping[str, Any]], ranks: Ranks) -> list[str]:
    """Files whose size and hash are not these; each rank reads its share. All ranks call this."""
    names = sorted(files)[ranks.rank :: ranks.size]
    mine = changed_files(folder, {name: files[name] for name in names})
    return [name for part in ranks.gather(mine) for name in part]


def _tell(rank: int, passed_over: list[tuple[Path, str]]) -> None:
    if rank == 0:
        for path, why in passed_over:
            print(f"codeio: ALARM: {path} is damaged ({why}); passed over", file=sys.stderr, flush=True)
