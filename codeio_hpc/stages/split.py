"""split: which functions are held out for evaluation; none of them stands in training in other words."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

from codeio_hpc.config.run import RunConfig, settings_hash
from codeio_hpc.stages.base import Context, GatherStage, Rejection
from codeio_hpc.stages.near_duplicates import clusters, sign, unpack
from codeio_hpc.tables import Row
from codeio_hpc.tables.schemas import FUNCTIONS, Table

_MOST = 0.05
"""A cluster with more than this share of all functions is trained on: held out, it would be the whole benchmark."""


class Split(GatherStage):
    """Functions that are near-duplicates of each other, directly or through others, fall on one side together.

    What is compared is the code without comments, layout, docstrings and annotations, and with the names that it gives
    numbered: a renamed copy is the same function.
    """

    name: ClassVar[str] = "split"
    version: ClassVar[int] = 1
    input: ClassVar[Table] = FUNCTIONS
    output: ClassVar[Table] = FUNCTIONS

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {"seed": config.seed, **config.split.model_dump(mode="json")}

    def sketch(self, rows: Sequence[Row], context: Context) -> list[list[str]]:
        """For each function: its id, a hash of its normalised code and, where near-duplicates count, the signature."""
        settings = context.config.split
        if not settings.heldout_fraction:
            return []
        found = []
        for row in rows:
            text = normalised(row["code"])
            signature = [sign(text)] if settings.near_duplicates is not None else []
            found.append([row["function_id"], settings_hash([context.config.seed, "split", text]), *signature])
        return found

    def decide(self, sketches: Iterator[list[list[str]]], context: Context) -> list[str]:
        """The ids of the functions that are held out."""
        settings = context.config.split
        found = list(chain.from_iterable(sketches))
        if settings.near_duplicates is not None and found:
            labels = clusters(unpack(one[2] for one in found), settings.near_duplicates)
        else:
            labels = list(range(len(found)))
        first: dict[str, int] = {}
        groups: dict[int, list[int]] = defaultdict(list)
        for place, (_, key, *_) in enumerate(found):
            groups[labels[first.setdefault(key, place)]].append(place)
        heldout: list[str] = []
        for places in groups.values():
            smallest = min(found[place][1] for place in places)
            draw = int(settings_hash(smallest)[:13], 16) / 16**13  # the smallest of several hashes is small itself
            few = len(places) <= max(1, _MOST * len(found))
            if few and draw < settings.heldout_fraction:
                heldout += [found[place][0] for place in places]
        return sorted(heldout)

    def apply(
        self, rows: Sequence[Row], sketch: Any, decision: Sequence[str], context: Context
    ) -> Iterable[Row | Rejection]:
        heldout = set(decision)
        for row in rows:
            side = "heldout" if row["function_id"] in heldout else "train"
            context.counts[f"functions:{side}"] += 1
            yield {**row, "split": side}


def normalised(code: str) -> str:
    """The code without comments, layout, docstrings and annotations, and with the names that it gives numbered."""
    try:
        return _normalised(code)
    except (ValueError, RecursionError):  # numbers too long to be written, or nested too deep
        return code


def _normalised(code: str) -> str:
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
