"""transform: from a file, the pure functions in it, each self-contained with a question and an input generator."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from codeio_hpc.config.run import RunConfig, settings_hash
from codeio_hpc.stages.base import Context, MapStage, Rejection
from codeio_hpc.stages.static.functions import FunctionDraft, drafts
from codeio_hpc.stages.static.module import Refused, parse_module
from codeio_hpc.stages.static.unified import UnifiedFunction, finish
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import FILES, FUNCTIONS, Table


class Transform(MapStage):
    """The ``static`` method: existing pure functions are lifted as they are, without a teacher; functions that come in
    the unified format are held to the same rules.

    A function that is dropped is a rejected candidate of its file, with one reason; a file from which no function
    comes is rejected itself as ``no_function`` (or ``not_parseable``).
    """

    name: ClassVar[str] = "transform"
    version: ClassVar[int] = 2
    input: ClassVar[Table] = FILES
    output: ClassVar[Table] = FUNCTIONS

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {"seed": config.seed, **config.transform.model_dump(mode="json")}

    def run(self, rows: Sequence[Row], context: Context) -> Iterable[Row | Rejection]:
        for done, row in enumerate(rows, start=1):
            yield from self._file(row, context)
            context.advance(done)

    def _file(self, row: Row, context: Context) -> Iterator[Row | Rejection]:
        try:
            if row["form"] == "function":
                given = finish(UnifiedFunction.from_json(row["content"]), context.config.transform)
                yield self._row(row, given, context.config)
                context.counts["functions"] += 1
                return
            module = parse_module(row["content"])
        except Refused as refused:
            yield Rejection(row["file_id"], refused.reason, refused.detail)
            return
        kept = dropped = 0
        for draft in drafts(module, context.config.transform):
            if isinstance(draft, FunctionDraft):
                kept += 1
                yield self._row(row, draft, context.config)
            else:
                dropped += 1
                name, reason, detail = draft
                identity = FUNCTIONS.row_id(row["file_id"], name)
                yield Rejection(identity, reason, f"{name}: {detail}" if detail else name, parent_id=row["file_id"])
        context.counts["functions"] += kept
        if not kept:
            yield Rejection(row["file_id"], "no_function", f"none of {dropped} functions can be used")

    def _row(self, row: Row, draft: FunctionDraft, config: RunConfig) -> Row:
        origin = {name: row[name] for name in ("file_id", "language", "source", "path", "licence")}
        return {
            "function_id": FUNCTIONS.row_id(row["file_id"], draft.name, draft.code),
            **origin,
            **{name: getattr(draft, name) for name in FunctionDraft.__dataclass_fields__},
            "split": split_of(draft.code, config),
        }


def split_of(code: str, config: RunConfig) -> str:
    """'heldout' for the configured share of functions: by the code's meaning, so that comments, layout, docstrings,
    annotations and the names that the code gives make no difference."""
    try:
        meaning = normalised(code)
    except (ValueError, RecursionError):  # numbers too long to be written, or nested too deep
        meaning = code
    draw = int(settings_hash([config.seed, "split", meaning])[:13], 16) / 16**13
    return "heldout" if draw < config.transform.heldout_fraction else "train"


def normalised(code: str) -> str:
    """The code without comments, layout, docstrings and annotations, and with the names that it gives numbered."""
    tree = ast.parse(code)
    tree.body = [node for node in tree.body if not isinstance(node, ast.ImportFrom) or node.module != "__future__"]
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        given = _given_name(node)
        if given is not None:
            names.setdefault(given, f"name_{len(names)}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg, node.annotation = names[node.arg], None
        elif isinstance(node, ast.keyword) and node.arg is not None:
            node.arg = names.get(node.arg, node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.name = names[node.name]
            if isinstance(node, ast.FunctionDef):
                node.returns = None
            if len(node.body) > 1 and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
    return ast.unparse(tree)


def _given_name(node: ast.AST) -> str | None:
    """The name that a definition, parameter or assignment gives; imported names mean the same everywhere."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.arg):
        return node.arg
    return node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None
