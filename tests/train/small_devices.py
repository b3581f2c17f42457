"""``codeio`` in a process whose device is too small for a whole model.

python tests/train/small_devices.py train RUN --stage stage1
"""

from __future__ import annotations

import sys
from typing import Any

from codeio_hpc.cli import main

if __name__ == "__main__":
    from codeio_hpc.train.forward import Network

    def to(network: Network, *_: Any, **__: Any) -> None:
        raise MemoryError(f"a model of {sum(weight.numel() for weight in network.parameters()):,} numbers does not fit")

    Network.to = to  # type: ignore[method-assign, assignment]
    sys.exit(main())
