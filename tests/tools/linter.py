"""tools/lint_def.py as a module: it is a program, in no package."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from tests.conftest import ROOT

TOOL = ROOT / "tools" / "lint_def.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lint_def", TOOL)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["lint_def"] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module


lint_def = _load()
