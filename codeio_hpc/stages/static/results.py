"""What kind of value a function returns, and how an entry point makes it fit for JSON."""

from __future__ import annotations

import ast
import re

from codeio_hpc.stages.static import kinds
from codeio_hpc.stages.static.hints import return_kind
from codeio_hpc.stages.static.infer import Parameter
from codeio_hpc.stages.static.kinds import Kind
from codeio_hpc.stages.static.lift import Candidate, Lifted
from codeio_hpc.stages.static.module import Module, Refused
from codeio_hpc.stages.static.purity import is_generator
from codeio_hpc.stages.static.words import words_of

ENTRY = "main_solution"
ITERATOR = Kind("iterator")
_CALLS: dict[str, Kind] = {
    "set": kinds.set_of(kinds.ANY),
    "frozenset": kinds.set_of(kinds.ANY),
    "sorted": kinds.list_of(kinds.ANY),
    "list": kinds.list_of(kinds.ANY),
    "dict": kinds.dict_of(kinds.STR, kinds.ANY),
    "len": kinds.INT,
    "int": kinds.INT,
    "float": kinds.FLOAT,
    "str": kinds.STR,
    "repr": kinds.STR,
    "bool": kinds.BOOL,
    "isinstance": kinds.BOOL,
    "any": kinds.BOOL,
    "all": kinds.BOOL,
    "ord": kinds.INT,
    "chr": kinds.STR,
    "bytes": kinds.BYTES,
    "bytearray": kinds.BYTES,
    "map": ITERATOR,
    "filter": ITERATOR,
    "zip": ITERATOR,
    "reversed": ITERATOR,
    "enumerate": ITERATOR,
    "range": ITERATOR,
    "iter": ITERATOR,
}
_TEXT_METHODS = words_of("join strip lstrip rstrip lower upper title capitalize replace format zfill ljust rjust")
_TRUTH_METHODS = frozenset(
    ["startswith", "endswith", "isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower", "isidentifier"]
)


def result_kind(module: Module, node: ast.FunctionDef, parameters: list[Parameter]) -> Kind:
    """From the hint, else from the expressions returned; 'iterator' for what must be unrolled into a list."""
    if is_generator(node):
        return ITERATOR
    hinted = return_kind(module, node)
    if hinted.name not in ("any", "unreadable") and hinted.known:
        return hinted
    results = _Results(module, node, parameters)
    found = [results.kind(value) for value in returned(node)]
    if any(kind.name in ("set", "bytes") or kind == ITERATOR for kind in found):
        special = [kind for kind in found if kind.name not in ("any", "none")]
        return special[0] if len({kind.name for kind in special}) == 1 else kinds.ANY
    return kinds.ANY if any(kind.name == "any" for kind in found) else kinds.join(found)


def require_result(node: ast.FunctionDef) -> None:
    """Raise Refused for functions that can return nothing but None (no_result), or a function (returns_function)."""
    if is_generator(node):
        return
    values = [value for value in returned(node) if not (isinstance(value, ast.Constant) and value.value is None)]
    if not values:
        raise Refused("no_result", "it returns nothing")
    inner = {item.name for item in ast.walk(node) if isinstance(item, ast.FunctionDef | ast.ClassDef)} - {node.name}
    if all(isinstance(value, ast.Lambda) or (isinstance(value, ast.Name) and value.id in inner) for value in values):
        raise Refused("returns_function")


def returned(node: ast.FunctionDef) -> list[ast.expr]:
    """What the function's own return statements give, those without a value aside."""
    return [inner.value for inner in _own(node) if isinstance(inner, ast.Return) and inner.value is not None]


def _own(node: ast.FunctionDef) -> list[ast.AST]:
    """Nodes of the function itself, not of functions inside it."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = list(node.body)
    while todo:
        inner = todo.pop()
        found.append(inner)
        if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo.extend(ast.iter_child_nodes(inner))
    return found


class _Results:
    """Kinds of the expressions of one function, as far as they show themselves."""

    def __init__(self, module: Module, node: ast.FunctionDef, parameters: list[Parameter]) -> None:
        self._module = module
        self._known = {parameter.name: parameter.kind for parameter in parameters}
        self._assigned: dict[str, list[ast.expr | None]] = {}
        self._open: set[str] = set()
        for inner in ast.walk(node):
            if isinstance(inner, ast.Assign):
                for target in inner.targets:
                    self._assign(target, inner.value)
            elif isinstance(inner, ast.AugAssign):
                self._assign(inner.target, ast.BinOp(inner.target, inner.op, inner.value))
            elif isinstance(inner, ast.For | ast.comprehension | ast.NamedExpr | ast.AnnAssign):
                self._assign(inner.target, None)
            elif isinstance(inner, ast.With):
                for item in inner.items:
                    self._assign(item.optional_vars, None)

    def _assign(self, target: ast.expr | None, value: ast.expr | None) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            for item in target.elts:
                self._assign(item, None)
        elif isinstance(target, ast.Name):
            self._assigned.setdefault(target.id, []).append(value)

    def kind(self, node: ast.expr) -> Kind:
        match node:
            case ast.Constant(value=value):
                return kinds.kind_of(value)
            case ast.Name(id=name):
                return self._named(name)
            case ast.JoinedStr():
                return kinds.STR
            case ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return kinds.BOOL
            case ast.UnaryOp(operand=operand):
                return self.kind(operand)
            case ast.BoolOp(values=values):
                return self._same(values)
            case ast.IfExp(body=body, orelse=orelse):
                return self._same([body, orelse])
            case ast.Set() | ast.SetComp():
                return kinds.set_of(kinds.ANY)
            case ast.List() | ast.ListComp() | ast.Tuple():
                return kinds.list_of(kinds.ANY)
            case ast.Dict() | ast.DictComp():
                return kinds.dict_of(kinds.STR, kinds.ANY)
            case ast.GeneratorExp():
                return ITERATOR
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.Subscript(value=value, slice=ast.Slice()):
                return self.kind(value)
            case ast.Call():
                return self._call(node)
        return kinds.ANY

    def _same(self, nodes: list[ast.expr]) -> Kind:
        found = [self.kind(node) for node in nodes]
        return kinds.ANY if any(kind.name == "any" for kind in found) else kinds.join(found)

    def _named(self, name: str) -> Kind:
        if name in self._open or None in (values := self._assigned.get(name, [])):
            return kinds.ANY
        self._open.add(name)  # a name assigned from itself tells nothing new
        try:
            found = [self.kind(value) for value in values if value is not None and not _is_itself(value, name)]
        finally:
            self._open.discard(name)
        if name in self._known:
            found.append(self._known[name])
        if not found or any(kind.name in ("any", "tuple", "vtuple") for kind in found):
            return kinds.ANY
        return kinds.join(found)

    def _arithmetic(self, node: ast.BinOp) -> Kind:
        left, right = self.kind(node.left), self.kind(node.right)
        names = {left.name, right.name}
        if "set" in names and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.BitXor | ast.Sub):
            return kinds.set_of(kinds.ANY)
        if left == kinds.STR and isinstance(node.op, ast.Mod | ast.Mult):
            return kinds.STR
        if "str" in names and isinstance(node.op, ast.Add):
            return kinds.STR
        if isinstance(node.op, ast.Div) and names <= {"int", "float"}:
            return kinds.FLOAT
        if names <= {"int", "float", "bool"} and not isinstance(node.op, ast.Pow):
            return kinds.FLOAT if "float" in names else kinds.INT
        return left if left == right and left.name in ("list", "set", "bytes") else kinds.ANY

    def _call(self, node: ast.Call) -> Kind:
        dotted = self._module.dotted(node.func)
        if dotted is not None:
            if re.match(r"base64\.\w+(?:en|de)code|binascii\.(?:a2b|b2a|hexlify|unhexlify)", dotted):
                return kinds.BYTES
            return ITERATOR if dotted.startswith("itertools.") else kinds.ANY
        if isinstance(node.func, ast.Name):
            return kinds.ANY if node.func.id in self._module.bindings else _CALLS.get(node.func.id, kinds.ANY)
        if not isinstance(node.func, ast.Attribute):
            return kinds.ANY
        attr = node.func.attr
        if attr in _TRUTH_METHODS:
            return kinds.BOOL
        if attr in ("encode", "to_bytes"):
            return kinds.BYTES
        if attr in ("split", "rsplit", "splitlines"):
            return kinds.list_of(kinds.STR) if self.kind(node.func.value).name == "str" else kinds.ANY
        if attr in _TEXT_METHODS and self.kind(node.func.value).name != "bytes":
            return kinds.STR
        return kinds.ANY


def _is_itself(value: ast.expr, name: str) -> bool:
    return isinstance(value, ast.Name) and value.id == name


def entry_point(candidate: Candidate, lifted: Lifted, parameters: list[Parameter], result: Kind) -> str:
    """The lifted code with its entry point: inputs and result are converted where JSON carries them otherwise.

    Tuples and sets arrive as lists and bytes as UTF-8 text; sets leave as sorted lists, iterators as lists, bytes as
    text with one character a byte.
    """
    if lifted.function == ENTRY:
        return lifted.code
    passed: list[str] = []
    for parameter in parameters:
        value = convert(parameter.kind, parameter.name)
        prefix = "*" if parameter.variadic else f"{parameter.name}=" if parameter.by_keyword else ""
        passed.append(prefix + value)
    names = ", ".join(parameter.name for parameter in parameters)
    taken = {parameter.name for parameter in parameters}
    function, alias = lifted.function, ""
    if function in taken:
        function = f"{lifted.function}_function"
        alias = f"{function} = {lifted.function}\n\n\n"
    call = f"{function}({', '.join(passed)})"
    if result.name == "set":
        call = f"sorted({call})"
    elif result == ITERATOR:
        call = f"list({call})"
    elif result.name == "bytes":
        call = f'{call}.decode("latin-1")'
    used = taken & {"tuple", "set", "list", "sorted", "int", function}
    if used and any(f"{name}(" in call for name in used):
        raise Refused("name_taken", f"a parameter is called '{min(used)}', which the entry point needs")
    return f"{lifted.code}\n\n{alias}def {ENTRY}({names}):\n    return {call}\n"


def convert(kind: Kind, expression: str) -> str:
    """The Python expression that turns the JSON value ``expression`` into what the function expects."""
    if not kind.needs_conversion():
        return expression
    converted = _convert_some(kind, expression)
    return f"None if {expression} is None else {converted}" if kind.optional else converted


def _convert_some(kind: Kind, expression: str) -> str:
    if kind.name == "bytes":
        return f"{expression}.encode()"
    if kind.name == "dict":
        key, value = (convert(item, name) for item, name in zip(kind.items, ("key", "value"), strict=True))
        key = "int(key)" if kind.items[0].name == "int" else key
        return f"{{{key}: {value} for key, value in {expression}.items()}}"
    if kind.name == "tuple" and any(item.needs_conversion() for item in kind.items):
        inner = ", ".join(convert(item, f"{expression}[{place}]") for place, item in enumerate(kind.items))
        return f"({inner},)"
    item = kind.items[0] if kind.name != "tuple" else kinds.ANY
    inner = f"[{convert(item, 'item')} for item in {expression}]" if item.needs_conversion() else expression
    return inner if kind.name == "list" else f"{'set' if kind.name == 'set' else 'tuple'}({inner})"
