"""Making a function's code self-contained: its imports, constants and helpers come along, in the file's order."""

from __future__ import annotations

import ast
import copy
import textwrap
from dataclasses import dataclass

from codeio_hpc.stages.static.module import BUILTINS, Binding, Module, Refused, used_globals
from codeio_hpc.stages.static.purity import require_import, require_pure

_FUTURE = "from __future__ import annotations"


@dataclass(frozen=True)
class Candidate:
    """A function of a file that could be lifted."""

    name: str
    """Qualified, as in the file."""
    node: ast.FunctionDef
    static: bool = False
    """A static method of a top-level class."""


@dataclass(frozen=True)
class Lifted:
    """Self-contained code, without its entry point."""

    code: str
    function: str
    """The name under which ``code`` defines the lifted function."""


def candidates(module: Module) -> list[Candidate]:
    """The file's functions and static methods, in order; of several with one name, the last."""
    found: dict[str, Candidate] = {}
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = Candidate(node.name, node)
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and _is_static(inner):
                    found[f"{node.name}.{inner.name}"] = Candidate(f"{node.name}.{inner.name}", inner, static=True)
    return list(found.values())


def other_functions(module: Module) -> list[tuple[str, str]]:
    """Qualified name and reason of the functions that are never candidates: methods and coroutines."""
    found: list[tuple[str, str]] = []
    for node in module.tree.body:
        if isinstance(node, ast.AsyncFunctionDef):
            found.append((node.name, "async"))
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_static(inner):
                    found.append((f"{node.name}.{inner.name}", "method"))
    return found


def _is_static(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return [getattr(decorator, "id", "") for decorator in node.decorator_list] == ["staticmethod"]


def lift(module: Module, candidate: Candidate, limit: int) -> Lifted:
    """The candidate with everything it needs.

    Raises:
        Refused: something it needs is impure, unsupported, unknown, or changes; or the code exceeds ``limit``
            characters (too_long).
    """
    needed: dict[int, ast.stmt] = {}
    imports: dict[str, Binding] = {}
    todo: list[ast.stmt] = [candidate.node]
    while todo:
        statement = todo.pop()
        if id(statement) in needed:
            continue
        needed[id(statement)] = statement
        names = used_globals(module, statement)
        require_pure(module, statement, names)
        for name in sorted(names):
            binding = module.binding(name)
            if binding is None:
                _require_builtin(name)
            elif binding.kind == "import":
                imports[name] = binding
            else:
                todo.append(binding.statement)
    if candidate.static and any(
        isinstance(node, ast.stmt) and node is not candidate.node and getattr(node, "name", "") == candidate.node.name
        for node in needed.values()
    ):
        raise Refused("name_taken", f"'{candidate.node.name}' also names something it needs")
    if sum(len(module.lines[line - 1]) for node in needed.values() for line in _lines_of(node)) > 20 * limit:
        raise Refused("too_long", "the code it needs is far beyond the limit")  # before any costly rendering
    code = _render(module, candidate, list(needed.values()), list(imports.values()))
    if len(code) > limit:
        raise Refused("too_long", f"{len(code)} characters, more than {limit}")
    return Lifted(code, candidate.node.name)


def _lines_of(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _require_builtin(name: str) -> None:
    if name not in BUILTINS:
        raise Refused("unknown_name", name)


def _render(module: Module, candidate: Candidate, needed: list[ast.stmt], imports: list[Binding]) -> str:
    heads = sorted({_import_line(binding) for binding in imports})
    bodies = [_text(module, node) for node in sorted(needed, key=lambda node: node.lineno)]
    if any(_annotation_names(node) - BUILTINS for node in needed):
        heads.insert(0, _FUTURE)
    return "\n".join(heads) + "\n\n\n" * bool(heads) + "\n\n\n".join(bodies) + "\n"


def _import_line(binding: Binding) -> str:
    require_import(binding.target)
    if isinstance(binding.statement, ast.ImportFrom):
        origin, _, name = binding.target.rpartition(".")
        alias = f" as {binding.name}" if binding.name != name else ""
        return f"from {origin} import {name}{alias}"
    alias = f" as {binding.name}" if binding.name != binding.target else ""
    dotted = _full_import(binding)
    return f"import {dotted}{alias}"


def _full_import(binding: Binding) -> str:
    """``import a.b`` binds ``a`` but loads a.b, which the code may need."""
    statement = binding.statement
    for alias in statement.names if isinstance(statement, ast.Import) else ():
        if alias.asname is None and alias.name.partition(".")[0] == binding.target:
            return alias.name
    return binding.target


def _annotation_names(node: ast.stmt) -> set[str]:
    """Names in annotations, which need not exist where annotations are not evaluated."""
    found: set[str] = set()
    for inner in ast.walk(node):
        annotations: list[ast.expr | None] = []
        if isinstance(inner, ast.FunctionDef):
            annotations.append(inner.returns)
        elif isinstance(inner, ast.arg | ast.AnnAssign):
            annotations.append(inner.annotation)
        for annotation in annotations:
            if annotation is not None:
                found |= {name.id for name in ast.walk(annotation) if isinstance(name, ast.Name)}
    return found


def _text(module: Module, node: ast.stmt) -> str:
    """The statement as it is written, without docstrings; rewritten by unparse where cutting would change it."""
    plain = without_docstrings(node)
    first = node.lineno
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.decorator_list and not _is_static_node(node):
        first = node.decorator_list[0].lineno
    drop = {line for docstring in _docstrings(node) for line in _lines_of(docstring)}
    numbers = [line for line in range(first, (node.end_lineno or first) + 1) if line not in drop]
    text = textwrap.dedent("\n".join(module.lines[line - 1] for line in numbers)).strip("\n")
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    try:
        same = ast.dump(ast.parse(text)) == ast.dump(ast.Module([plain], []))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        same = False
    try:
        return _squeeze(text) if same else ast.unparse(plain)
    except (RecursionError, ValueError):
        # ValueError: a whole number of more digits than Python writes out
        raise Refused("too_long", "nested too deep, or a number too long to be written") from None


def _squeeze(text: str) -> str:
    """No blank lines right after a header whose docstring was cut."""
    lines = text.split("\n")
    kept: list[str] = []
    for line in lines:
        if line or not kept or not kept[-1].rstrip().endswith(":"):
            kept.append(line)
    squeezed = "\n".join(kept)
    try:
        return squeezed if ast.dump(ast.parse(squeezed)) == ast.dump(ast.parse(text)) else text
    except SyntaxError:
        return text


def _is_static_node(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return isinstance(node, ast.FunctionDef) and _is_static(node)


def _docstrings(node: ast.AST) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and _starts_with_text(inner):
            found.append(inner.body[0])
    return found


def _starts_with_text(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    first = node.body[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def without_docstrings(node: ast.stmt) -> ast.stmt:
    """A copy without docstrings, and without the staticmethod decorator."""
    plain = copy.deepcopy(node)
    for inner in ast.walk(plain):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and _starts_with_text(inner):
            inner.body = inner.body[1:] or [ast.Pass()]
    if isinstance(plain, ast.FunctionDef) and _is_static(plain):
        plain.decorator_list = []
    return plain
