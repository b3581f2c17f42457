"""Going on from the newest checkpoint that is whole."""

from __future__ import annotations

import sys
from pathlib import Path

from codeio_hpc.errors import RunFailedError
from codeio_hpc.tables.files import sha256
from codeio_hpc.train.checkpoints.files import Complete, check_identity, not_whole, published
from codeio_hpc.train.meeting import Ranks


def find(folder: Path, identity: str, ranks: Ranks) -> tuple[Path, Complete] | None:
    """The newest whole checkpoint, its content checked; None if none was ever published. All ranks call this.

    Damaged ones are passed over, and said so: training from an older one gives the same result, only later.

    Raises:
        UserError: it is of other settings or data.
        RunFailedError: there are checkpoints, but none is whole.
    """
    candidates, passed_over = ranks.gather((published(folder), not_whole(folder)))[0]
    _tell(ranks.rank, passed_over, "files are missing or cut")
    for path, complete in reversed(candidates):
        check_identity(path, complete, identity)
        damaged = _damaged(path, complete, ranks)
        if not damaged:
            return path, complete
        _tell(ranks.rank, [path], f"the content of {', '.join(damaged)} has changed")
        passed_over.append(path)
    if passed_over:
        raise RunFailedError(
            f"{folder}: no checkpoint is whole any more ({', '.join(path.name for path in passed_over)}); restore one, "
            "or remove the folder to start this stage afresh"
        )
    return None


def _damaged(path: Path, complete: Complete, ranks: Ranks) -> list[str]:
    """Files whose content is not what the marker says; each rank reads its share."""
    mine = [
        name
        for number, (name, facts) in enumerate(sorted(complete.files.items()))
        if number % ranks.size == ranks.rank and sha256(path / name) != facts["sha256"]
    ]
    return [name for part in ranks.gather(mine) for name in part]


def _tell(rank: int, paths: list[Path], why: str) -> None:
    if rank == 0:
        for path in paths:
            print(f"codeio: ALARM: {path} is damaged ({why}); passed over", file=sys.stderr, flush=True)
