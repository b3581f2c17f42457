"""The program that a jail starts: gives the files of this folder their names, and serves.

Nothing else of the house is in a jail. The packages above this folder are stand-ins while its files import each other,
and are gone before the first sample.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType


def stand_in_packages() -> list[str]:
    """Packages without content, whose path is this folder. Returns their names."""
    names = ["codeio_hpc", "codeio_hpc.sandbox", "codeio_hpc.sandbox.inside"]
    for name in names:
        package = ModuleType(name)
        package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
        sys.modules[name] = package
    return names


if __name__ == "__main__":
    # what libraries would do in every child (random seeds itself anew, threading renews its locks) takes 40 % of the
    # time of a bare fork, and the zygote has one thread and seeds its children itself
    os.register_at_fork = lambda **callbacks: None
    stand_in_packages()
    from codeio_hpc.sandbox.inside.zygote import main

    for loaded in [name for name in sys.modules if name.partition(".")[0] == "codeio_hpc"]:
        del sys.modules[loaded]
    main()
