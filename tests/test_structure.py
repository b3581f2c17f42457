"""The house: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "codeio_hpc"
ROOMS = [
    *("cli", "export", "report", "evaluate", "train", "launch", "stages", "teachers", "sandbox", "tables", "config"),
    "errors",
]
"""From top to bottom; imports point downwards only."""


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name not in ("__init__.py", "__main__.py")]


def test_every_file_stands_in_a_known_room() -> None:
    assert {room_of(path) for path in sources()} <= set(ROOMS)


def test_imports_point_downwards_only() -> None:
    upwards = []
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        if room not in ROOMS:
            continue
        for module in imported_modules(path):
            parts = module.split(".")
            ours = parts[0] == "codeio_hpc" and len(parts) > 1 and parts[1] in ROOMS
            if ours and ROOMS.index(parts[1]) < ROOMS.index(room):
                upwards.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert not upwards


def test_stages_do_not_import_each_other() -> None:
    stages = {"collect", "transform", "sample", "pose", "answer", "verify", "revise", "assemble", "tokenise"}
    stages |= {"split", "decontaminate", "import_"}
    sideways = [
        f"{path.name} imports {module}"
        for path in (PACKAGE / "stages").rglob("*.py")
        if path.name != "registry.py"
        for module in imported_modules(path)
        if module.startswith("codeio_hpc.stages.") and module.split(".")[2] in stages - {path.stem}
    ]
    assert not sideways


def test_rooms_on_compute_nodes_load_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "deepspeed", "submitit", "datasets", "numpy"}
    for room in ("config", "tables", "sandbox"):
        code = f"import sys, codeio_hpc.{room}; print(*sys.modules)"
        modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        allowed = {"numpy"} if room == "tables" else set()  # pyarrow loads numpy where it is installed
        assert not (heavy - allowed) & set(modules.split()), room
