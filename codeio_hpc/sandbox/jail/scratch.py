"""Folders of a worker's that jails may see, and that do not outlive it for long.

A worker that is killed cannot remove what it has made. Each folder is locked as long as its worker lives; whoever makes
the next one removes those that nobody holds any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "codeio-jail-"
"""In the folder for temporary files, which is the node's own."""
_YOUNG_SECONDS = 60


class ScratchFolder:
    """A new folder that only this user may enter. Remove it, or use it as a context.

    Raises:
        OSError: there is no room, or no right to make it.
    """

    def __init__(self) -> None:
        sweep()
        self.path = tempfile.mkdtemp(prefix=PREFIX)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __enter__(self) -> ScratchFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def remove(self) -> None:
        """With all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep() -> None:
    """Remove this user's folders whose workers are gone."""
    for path in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        try:
            if path.is_symlink() or path.stat().st_uid != os.geteuid():
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            # one that is a moment old may not have been locked yet
            if os.fstat(descriptor).st_mtime < time.time() - _YOUNG_SECONDS:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # held
            continue
        finally:
            os.close(descriptor)
