"""tools/lint_def.py and its parts as modules: it is a program, in no package."""

from __future__ import annotations

import sys

from tests.conftest import ROOT

TOOL = ROOT / "tools" / "lint_def.py"

sys.path.insert(0, str(TOOL.parent))
try:
    import lint_def
    from def_lint import recipe
finally:
    sys.path.remove(str(TOOL.parent))

__all__ = ["TOOL", "lint_def", "recipe"]
