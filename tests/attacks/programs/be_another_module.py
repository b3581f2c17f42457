"""Take the main module's place, import it again, and execute the interpreter anew with other options."""

import contextlib
import importlib
import os
import sys

sys.modules["__main__"] = sys.modules["builtins"]
for name in ("__main__", "solution", "codeio_hpc.sandbox.inside.program"):
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError):
        continue
    if hasattr(module, "open_standard_streams"):
        print(name)
with contextlib.suppress(OSError):
    os.execv(sys.executable, [sys.executable, "-c", "print('executed')"])
