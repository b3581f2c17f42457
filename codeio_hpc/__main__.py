"""``python -m codeio_hpc`` is the command ``codeio``."""

import sys

from codeio_hpc.cli import main

sys.exit(main())
