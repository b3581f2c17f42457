"""Type hints read as kinds."""

from __future__ import annotations

import ast

from codeio_hpc.stages.static import kinds
from codeio_hpc.stages.static.kinds import Kind
from codeio_hpc.stages.static.module import Module
from codeio_hpc.stages.static.words import words_of

_SIMPLE = {
    "int": kinds.INT,
    "float": kinds.FLOAT,
    "bool": kinds.BOOL,
    "str": kinds.STR,
    "Text": kinds.STR,
    "AnyStr": kinds.STR,
    "LiteralString": kinds.STR,
    "StrPath": kinds.STR,
    "PathLike": kinds.STR,
    "bytes": kinds.BYTES,
    "bytearray": kinds.BYTES,
    "ReadableBuffer": kinds.BYTES,
    "None": kinds.NONE,
    "Any": kinds.ANY,
    "object": kinds.ANY,
    "Hashable": kinds.ANY,
    "SupportsInt": kinds.INT,
    "SupportsIndex": kinds.INT,
    "SupportsFloat": kinds.FLOAT,
    "Integral": kinds.INT,
    "Real": kinds.FLOAT,
    "Number": kinds.FLOAT,
}
_LISTS = frozenset(
    ["list", "List", "Sequence", "MutableSequence", "Iterable", "Collection", "Container", "Sized", "Reversible"]
)
_SETS = words_of("set Set frozenset FrozenSet AbstractSet MutableSet")
_TUPLES = words_of("tuple Tuple")
_DICTS = words_of("dict Dict Mapping MutableMapping OrderedDict defaultdict DefaultDict")
_WRAPPERS = words_of("Final Annotated ClassVar Required NotRequired ReadOnly TypeGuard")
_ITERATORS = words_of("Iterator Generator")
UNREADABLE = Kind("unreadable")
"""A hint that names something no JSON value can be."""


def kind_of_hint(module: Module, node: ast.expr | None, depth: int = 0) -> Kind:
    """The kind that an annotation describes; 'any' if there is none, 'unreadable' for classes and callables."""
    if node is None or depth > 6:
        return kinds.ANY
    if isinstance(node, ast.Constant):
        return _constant(module, node.value, depth)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([kind_of_hint(module, side, depth + 1) for side in (node.left, node.right)])
    if isinstance(node, ast.Subscript):
        return _subscript(module, node, depth)
    if isinstance(node, ast.Name | ast.Attribute):
        return _named(module, node, depth)
    return UNREADABLE


def _constant(module: Module, value: object, depth: int) -> Kind:
    if value is None:
        return kinds.NONE
    if isinstance(value, str):
        try:
            return kind_of_hint(module, ast.parse(value.strip(), mode="eval").body, depth + 1)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return kinds.ANY
    return UNREADABLE


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _named(module: Module, node: ast.Name | ast.Attribute, depth: int) -> Kind:
    name = _last(node)
    if isinstance(node, ast.Name) and (found := module.bindings.get(name)) and found[0].kind == "constant":
        return _alias(module, found[0].statement, depth)
    if name in _SIMPLE:
        return _SIMPLE[name]
    if name in _LISTS:
        return kinds.list_of(kinds.ANY)
    if name in _SETS:
        return kinds.set_of(kinds.ANY)
    if name in _TUPLES:
        return Kind("vtuple", (kinds.ANY,))
    if name in _DICTS:
        return kinds.dict_of(kinds.STR, kinds.ANY)
    return UNREADABLE


def _alias(module: Module, statement: ast.stmt, depth: int) -> Kind:
    """``Name = Union[...]`` at the top level; a TypeVar stands for its bound or first constraint, else anything."""
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    if isinstance(value, ast.Call):
        if _last(value.func) == "TypeVar":
            bound = [keyword.value for keyword in value.keywords if keyword.arg == "bound"] + value.args[1:]
            return kind_of_hint(module, bound[0], depth + 1) if bound else kinds.ANY
        if _last(value.func) == "NewType" and len(value.args) == 2:
            return kind_of_hint(module, value.args[1], depth + 1)
        return UNREADABLE
    return kind_of_hint(module, value, depth + 1) if value is not None else UNREADABLE


def _subscript(module: Module, node: ast.Subscript, depth: int) -> Kind:
    name = _last(node.value)
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        values = [part.value for part in parts if isinstance(part, ast.Constant)]
        simple = [value for value in values if value is None or isinstance(value, str | int)]
        return kinds.choice_of(simple) if simple and len(simple) == len(parts) else UNREADABLE
    if name in _TUPLES and len(parts) == 2 and isinstance(parts[1], ast.Constant) and parts[1].value is Ellipsis:
        return Kind("vtuple", (kind_of_hint(module, parts[0], depth + 1),))
    inner = [kind_of_hint(module, part, depth + 1) for part in parts]
    if name == "Optional":
        return inner[0].or_none()
    if name == "Union":
        return _union(inner)
    if name in _WRAPPERS:
        return inner[0]
    if name in _TUPLES:
        return kinds.tuple_of(*inner)
    if name in _LISTS | _SETS:
        return Kind("set" if name in _SETS else "list", (inner[0],))
    if name in _DICTS and len(inner) == 2:
        return kinds.dict_of(*inner)
    if name in ("type", "Type", "Callable") or name in _ITERATORS:
        return UNREADABLE
    return _SIMPLE.get(name, UNREADABLE)


def _union(options: list[Kind]) -> Kind:
    """The first option that JSON can carry, the others being accepted but not generated."""
    usable = [option for option in options if option.name not in ("unreadable", "none")]
    optional = any(option.name == "none" or option.optional for option in options)
    if not usable:
        return kinds.NONE if optional and len(options) == 1 else UNREADABLE
    plain = [option for option in usable if not option.needs_conversion()] or usable
    chosen = kinds.join(plain[:1] if len({option.name for option in plain}) > 2 else plain)
    chosen = plain[0] if chosen.name == "any" else chosen
    return chosen.or_none() if optional else chosen


def return_kind(module: Module, node: ast.FunctionDef) -> Kind:
    """What the function's hint says it returns; 'iterator' where it must be unrolled into a list."""
    if node.returns is not None and _last(getattr(node.returns, "value", node.returns)) in _ITERATORS:
        return Kind("iterator")
    return kind_of_hint(module, node.returns)
