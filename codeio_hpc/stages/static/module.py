"""A source file taken apart: what each name at its top level is bound to, and which names a piece of code uses."""

from __future__ import annotations

import ast
import builtins
import symtable
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
BUILTINS = frozenset(dir(builtins))


class Refused(Exception):
    """A function cannot be lifted; carries the reason code and a detail for people."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True)
class Binding:
    """A top-level statement that gives a name its value."""

    name: str
    kind: Literal["import", "definition", "constant"]
    statement: ast.stmt
    target: str = ""
    """Imports: the full dotted name of what is imported."""


@dataclass(frozen=True)
class Module:
    """A parsed file.

    ``unsteady`` holds the names that top-level code other than one plain statement binds or touches (in ``if``,
    ``try``, loops, calls): their value cannot be told from one statement.
    """

    text: str
    tree: ast.Module
    bindings: dict[str, list[Binding]]
    unsteady: frozenset[str]
    table: symtable.SymbolTable = field(repr=False, compare=False)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def scopes(self) -> dict[tuple[str, int], symtable.SymbolTable]:
        """Symbol tables by name and line of the definition, of all depths."""
        found: dict[tuple[str, int], symtable.SymbolTable] = {}
        todo = [self.table]
        while todo:
            for child in todo.pop().get_children():
                found.setdefault((child.get_name(), child.get_lineno()), child)
                todo.append(child)
        return found

    def binding(self, name: str) -> Binding | None:
        """The one binding of a top-level name, overloads aside; None for a name the file does not bind.

        Raises:
            Refused: the name is bound in several places, or changed after it was bound.
        """
        found = self.bindings.get(name)
        if found is None:
            if name in self.unsteady:
                raise Refused("module_state", f"'{name}' is bound conditionally")
            return None
        solid = [binding for binding in found if not _is_overload(binding.statement)]
        if len(solid) != 1:
            raise Refused("module_state", f"'{name}' is bound {len(solid)} times")
        if name in self.unsteady:
            raise Refused("module_state", f"'{name}' is changed at the top level")
        return solid[0]

    def members(self, name: str) -> tuple[str | int, ...]:
        """The first texts and whole numbers in a constant table, set or list of the file; () for anything else."""
        found = self.bindings.get(name, ())
        value = getattr(found[0].statement, "value", None) if len(found) == 1 and found[0].kind == "constant" else None
        items: list[ast.expr | None] = []
        if isinstance(value, ast.Call) and value.args and isinstance(value.func, ast.Name):
            value = value.args[0] if value.func.id in ("set", "frozenset", "dict", "list", "tuple") else None
        if isinstance(value, ast.Dict):
            items = list(value.keys)
        elif isinstance(value, ast.Set | ast.List | ast.Tuple):
            items = list(value.elts)
        values = [item.value for item in items[:12] if isinstance(item, ast.Constant)]
        return tuple(value for value in values if isinstance(value, str | int) and not isinstance(value, bool))

    def dotted(self, node: ast.expr) -> str | None:
        """The full dotted name of an imported thing that an expression names, as 'os.path.join'; else None."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        imports = [binding for binding in self.bindings.get(node.id, ()) if binding.kind == "import"]
        return ".".join([imports[0].target, *reversed(parts)]) if imports else None


def parse_module(text: str) -> Module:
    """Take a file apart.

    Raises:
        Refused: not_parseable (also what only the compiler notices, and nesting too deep to walk).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            table = symtable.symtable(text, "file", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refused("not_parseable", f"{type(error).__name__}: {error}") from None
    bindings: dict[str, list[Binding]] = {}
    unsteady: set[str] = set()
    for statement in tree.body:
        found = list(_bindings(statement))
        for binding in found:
            bindings.setdefault(binding.name, []).append(binding)
        if not found and not isinstance(statement, ast.Import | ast.ImportFrom):
            unsteady.update(_touched(statement))
    return Module(text, tree, bindings, frozenset(unsteady), table)


def _bindings(statement: ast.stmt) -> list[Binding]:
    if isinstance(statement, Definition):
        return [Binding(statement.name, "definition", statement)]
    if isinstance(statement, ast.Import):
        return [_import(statement, alias) for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        origin = "." * statement.level + (statement.module or "")
        return [
            Binding(alias.asname or alias.name, "import", statement, f"{origin}.{alias.name}")
            for alias in statement.names
        ]
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    else:
        return []
    names = [name for target in targets for name in _plain_names(target)]
    return [Binding(name, "constant", statement) for name in names]


def _import(statement: ast.Import, alias: ast.alias) -> Binding:
    if alias.asname:
        return Binding(alias.asname, "import", statement, alias.name)
    top = alias.name.partition(".")[0]
    return Binding(top, "import", statement, top)


def _plain_names(target: ast.expr) -> list[str]:
    if isinstance(target, ast.Name):
        return [target.id]
    if isinstance(target, ast.Tuple | ast.List):
        return [name for item in target.elts for name in _plain_names(item)]
    return []


def _touched(statement: ast.stmt) -> set[str]:
    """Names that a statement, taken apart no further, may bind or change."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return set()
    if isinstance(statement, ast.If) and _is_main_guard(statement.test):
        return set()
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    names |= {node.name for node in ast.walk(statement) if isinstance(node, Definition)}
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return names - BUILTINS


def _is_main_guard(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def _is_overload(statement: ast.stmt) -> bool:
    return isinstance(statement, Definition) and any(
        getattr(decorator, "attr", getattr(decorator, "id", "")) == "overload" for decorator in statement.decorator_list
    )


def used_globals(module: Module, node: ast.stmt) -> set[str]:
    """Names of the module (or of builtins) that a top-level statement uses when it runs, annotations aside."""
    if not isinstance(node, Definition):
        return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)}
    names = _outer_names(node)
    scope = module.scopes.get((node.name, node.lineno))
    if scope is None:
        raise Refused("not_parseable", f"no scope for '{node.name}'")
    todo = [scope]
    while todo:
        table = todo.pop()
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        todo.extend(table.get_children())
    return names


def _outer_names(node: Definition) -> set[str]:
    """Names used by decorators, defaults, bases and keywords, which run outside the definition's own scope."""
    outside: list[ast.expr] = list(node.decorator_list)
    if isinstance(node, ast.ClassDef):
        outside += [*node.bases, *(keyword.value for keyword in node.keywords)]
    else:
        outside += [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
    return {inner.id for part in outside for inner in ast.walk(part) if isinstance(inner, ast.Name)}
