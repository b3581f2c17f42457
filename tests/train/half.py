"""``codeio`` in a process where DeepSpeed lets a CPU calculate in float16, which it can, slowly.

python tests/train/half.py train RUN --stage stage1
"""

from __future__ import annotations

import os
import sys

os.environ["DS_ACCELERATOR"] = "cpu"

from codeio_hpc.cli import main

if __name__ == "__main__":
    from deepspeed.accelerator import get_accelerator

    get_accelerator().is_fp16_supported = lambda: True
    sys.exit(main())
